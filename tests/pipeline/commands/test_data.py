"""`mobanet data import` as a process: its output and its exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from components.common.data import datasets
from components.common.data.rawtree import RECORD, read_raw_tree
from tests.isprs_package import write_package, zipped
from tests.repo.import_graph import ROOT


def mobanet(*arguments):
    command = [sys.executable, "-m", "pipeline", "data", "import", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_table_and_the_terms_go_to_stdout_and_commentary_to_stderr(tmp_path) -> None:
    sources = write_package(tmp_path, "vaihingen", ["1", "3"], georeference="apart", truncated=[("3", "dsm")])
    done = mobanet(*sources, "--dataset", "vaihingen", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:6] == [
        "image   2 of 33 tiles",
        "dsm     1 of 33 tiles",
        "label   2 of 33 tiles",
        "eroded  2 of 33 tiles",
        "incomplete: 3 (no dsm)",
    ]
    assert "Cramer, 2010" in done.stdout
    assert done.stderr.startswith("left out: Vaihingen.zip/") and "Traceback" not in done.stderr
    assert set(read_raw_tree(tmp_path / "out").tiles) == {"1", "3"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["given", "--dataset", "potsdam"], "holds no file of potsdam"),
        (["nowhere", "--dataset", "potsdam"], "no such folder or .zip"),
        (["evil.zip", "--dataset", "potsdam"], "outside"),
        (["given", "--dataset", "berlin"], "no data set is called 'berlin'"),
        (["given", "--dataset", "potsdam", "--dsm", "mean"], "potsdam has absolute, lastools, ownapproach"),
        (["given", "--dataset", "potsdam", "--crs", "UTM"], "not a coordinate reference system"),
        (["given", "--dataset", "potsdam", "--crs", "EPSG:25833"], "is EPSG:32633, but --crs is EPSG:25833"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exit_code_2(tmp_path, arguments, words) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "evil.zip").write_bytes(zipped({"../top_potsdam_2_10_RGB.tif": b"1"}))
    done = mobanet(tmp_path / arguments[0], *arguments[1:], "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_import_goes_on_where_it_was(tmp_path, number) -> None:
    tiles = datasets.tiles("potsdam")[:24]
    sources = write_package(tmp_path, "potsdam", tiles)
    arguments = [*sources, "--dataset", "potsdam", "--out", tmp_path / "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "data", "import", *map(str, arguments)], cwd=ROOT, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").rglob("*.tif"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number), err
    assert not (tmp_path / "out" / RECORD).exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.tif")}
    done = mobanet(*arguments)
    assert done.returncode == 0, done.stderr
    assert "image   24 of 38 tiles" in done.stdout
    again = [path for path, changed_ns in kept.items() if path.stat().st_mtime_ns != changed_ns]
    assert len(kept) >= 2 and len(again) <= 1  # at most the one whose line in the journal was not written yet
    assert not list((tmp_path / "out").rglob(".*.part"))
