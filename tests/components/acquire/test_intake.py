from __future__ import annotations

import json
import os
import random
import shutil
import signal

import numpy as np
import pytest
import rasterio

from components.acquire import intake, journal
from components.acquire.journal import JOURNAL
from components.acquire.look import look
from components.common.data import datasets
from components.common.data.rawtree import RECORD, read_raw_tree
from components.common.errors import DataError
from tests.components.acquire.importing import KINDS, POTSDAM, VAIHINGEN, changes, files, importing, pixels
from tests.isprs_package import PALETTE, place, raster, scene, world_file, write_package


def test_the_world_file_of_the_better_of_two_rasters_is_the_one_that_stays(tmp_path) -> None:
    right, wrong = place("potsdam", "2_10", 64), place("potsdam", "3_11", 64)
    heights, holes = scene("potsdam", "2_10", 64)["absolute"], scene("potsdam", "2_10", 64)["absolute"]
    holes[:, :9] = np.nan
    for name, pixels_BHW, where in (("a", holes, wrong), ("b", heights, right), ("c", holes, wrong)):
        (tmp_path / "given" / name).mkdir(parents=True)
        (tmp_path / "given" / name / "dsm_potsdam_02_10.tif").write_bytes(raster(pixels_BHW))
        (tmp_path / "given" / name / "dsm_potsdam_02_10.tfw").write_bytes(world_file(where))
    for exact in (False, True):
        out = tmp_path / f"out{exact}"
        for _ in range(2):
            tree = importing([tmp_path / "given"], out, exact=exact)
            with rasterio.open(tree.file("2_10", "dsm")) as file:
                assert np.array_equal(file.read(), heights) and file.transform.almost_equals(right)


def test_a_world_file_that_was_lost_or_changed_comes_back(tmp_path) -> None:
    sources = write_package(tmp_path, "potsdam", ["2_10"], georeference="apart")
    tree = importing(sources, tmp_path / "out")
    whole = files(tmp_path / "out")
    tree.file("2_10", "dsm").with_suffix(".tfw").unlink()
    tree.file("2_10", "image").with_suffix(".tfw").write_text("1\n" * 6)
    importing(sources, tmp_path / "out")
    assert files(tmp_path / "out") == whole


def test_where_links_are_impossible_files_are_copied(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    sources = write_package(tmp_path, "potsdam", ["2_10"], form="folder")
    tree = importing(sources, tmp_path / "out")
    assert tree.file("2_10", "image").read_bytes() == next(sources[0].rglob("*_RGB.tif")).read_bytes()


def test_a_second_run_changes_nothing(tmp_path, caplog) -> None:
    sources = write_package(tmp_path, "potsdam", ["2_10", "2_11"], twice=["2_10"], georeference="apart")
    importing(sources, tmp_path / "out")
    before = changes(tmp_path / "out")
    caplog.clear()
    tree = importing(sources, tmp_path / "out")
    assert changes(tmp_path / "out") == before
    assert tree == read_raw_tree(tmp_path / "out") and len(tree.tiles) == 2
    assert "keeping" not in caplog.text


def test_a_source_that_is_named_twice_is_read_once(tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    sources = write_package(tmp_path, "potsdam", ["2_10"])
    importing(sources * 2, tmp_path / "out")
    assert "keeping" not in caplog.text


def test_a_file_that_was_lost_or_damaged_comes_back(tmp_path) -> None:
    sources = write_package(tmp_path, "potsdam", ["2_10"], twice=["2_10"])
    tree = importing(sources, tmp_path / "out")
    whole = files(tmp_path / "out")
    tree.file("2_10", "dsm").unlink()
    image = tree.file("2_10", "image")
    image.write_bytes(image.read_bytes()[:-100])
    label = tree.file("2_10", "label")
    label.write_bytes(raster(scene("potsdam", "2_11", 64)["label"]))  # another picture, without a georeference
    importing(sources, tmp_path / "out")
    assert files(tmp_path / "out") == whole


def test_a_better_file_replaces_a_worse_one_and_never_the_other_way_round(tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    good = write_package(tmp_path / "1", "potsdam", ["2_10"])
    worse = write_package(tmp_path / "2", "potsdam", ["2_10"], georeference="none", dsm_nan=["2_10"])
    unreadable = write_package(tmp_path / "3", "potsdam", ["2_10"], truncated=[("2_10", kind) for kind in KINDS[:3]])
    importing(worse, tmp_path / "out")
    importing(good, tmp_path / "out")
    best = files(tmp_path / "out")
    assert "only this one has a position" in caplog.text
    assert "4,096 measured pixels against 4,032" in caplog.text
    for sources in (worse, unreadable, worse + good, unreadable + worse):
        importing(sources, tmp_path / "out")
        assert files(tmp_path / "out") == best
    for number, sources in enumerate((worse + good, good + worse + unreadable, unreadable + worse + good)):
        importing(sources, tmp_path / f"fresh{number}")
        assert files(tmp_path / f"fresh{number}") == best


def test_more_than_the_disk_holds_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**4))
    with pytest.raises(DataError, match=r"0\.0 GB unpacked, 0\.0 GB are free; make room"):
        importing(write_package(tmp_path, "potsdam", ["2_10"]), tmp_path / "out")
    assert not [path for path in files(tmp_path / "out") if path.endswith(".tif")]


def test_a_mutated_source_is_imported_or_refused_and_every_file_that_comes_is_whole(tmp_path) -> None:
    layers = ("rgb", "lastools", "label")
    (source,) = write_package(
        tmp_path, "potsdam", ["2_10"], side_px=16, form="folder", georeference="world", layers=layers
    )
    given = {path: path.read_bytes() for path in source.rglob("*.*") if path.is_file()}
    rng, outcomes = random.Random(11), set()
    for number in range(100):
        for path, content in given.items():
            changed = bytearray(content)
            for _ in range(rng.choice((1, 2, 8))):
                changed[rng.randrange(min(len(changed), 400))] = rng.randrange(256)
            path.unlink()  # not written over: an earlier tree may share it
            path.write_bytes(changed[: rng.choice((len(changed), len(changed), rng.randrange(len(changed))))])
        try:
            out = tmp_path / str(number)
            tree = importing([source], out, datasets.dataset("potsdam", "rgb", "lastools"))
            for place, kind in ((tree.file("2_10", kind), kind) for kind in tree.tiles["2_10"]):
                look(place, place.suffix, kind)
            outcomes.add(len(tree.tiles["2_10"]))
        except DataError as error:
            assert "\n" not in str(error)
            outcomes.add(0)
    assert {0, 1, 2} <= outcomes


def killed_while(target, name: str, call: int, *arguments) -> None:
    """Run `collect` in a process of its own that gets SIGKILL in the given call of a function."""
    pid = os.fork()
    if pid == 0:
        try:
            whole, calls = getattr(target, name), iter(range(call))

            def counted(*args, **kwargs):
                if next(calls, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return whole(*args, **kwargs)

            setattr(target, name, counted)
            importing(*arguments)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (intake, "look"),
        (intake, "digest"),
        (journal.Journal, "add"),
        (os, "fsync"),
        (os, "replace"),
    ],
)
@pytest.mark.parametrize("exact", [False, True])
def test_a_killed_import_leaves_no_half_file_and_goes_on(tmp_path, target, name, exact) -> None:
    sources = write_package(tmp_path, "potsdam", ["2_10", "2_11"], georeference="apart")
    importing(sources, tmp_path / "whole")
    whole, out = files(tmp_path / "whole"), tmp_path / "out"
    for call in (0, 2, 4):
        killed_while(target, name, call, sources, out, POTSDAM, exact)
        done = {path: content for path, content in files(out).items() if not path.endswith(".part")}
        assert done.items() < whole.items() and RECORD not in done
    kept = changes(out)
    tree = importing(sources, out, exact=exact)
    assert files(out) == whole
    in_journal = {json.loads(line).get("place") for line in (out / JOURNAL).read_text().splitlines()}
    assert in_journal - {None} == whole.keys() - {RECORD} and len(tree.tiles) == 2
    assert len(kept.items() & changes(out).items()) >= 2  # the journal and at least the first file


def test_an_exact_tree_holds_its_source_alone(tmp_path) -> None:
    out = tmp_path / "out"
    (out / "old").mkdir(parents=True)
    (out / "old" / "top_potsdam_2_10_RGB.tif").write_bytes(b"1")
    importing(write_package(tmp_path / "1", "potsdam", ["2_10", "2_11"]), out, exact=True)
    assert not (out / "old").exists()
    second = write_package(tmp_path / "2", "potsdam", ["2_11"], georeference="none", dsm_nan=["2_11"])
    tree = importing(second, out, exact=True)
    assert set(tree.tiles) == {"2_11"}
    assert files(out).keys() == {POTSDAM.path(kind, "2_11") for kind in KINDS} | {RECORD}
    assert np.isnan(pixels(out, "dsm", "2_11")).any()  # worse, but what the source holds now
    before = changes(out)
    importing(second, out, exact=True)
    assert changes(out) == before


def test_an_exact_tree_of_another_data_set_keeps_nothing(tmp_path) -> None:
    out = tmp_path / "out"
    importing(write_package(tmp_path / "1", "potsdam", ["2_10"]), out, exact=True)
    importing(write_package(tmp_path / "2", "vaihingen", ["1"]), out, VAIHINGEN, exact=True)
    assert files(out).keys() == {VAIHINGEN.path(kind, "1") for kind in KINDS} | {RECORD}


def test_going_back_to_an_earlier_source_brings_its_files_again(tmp_path) -> None:
    one, two = (write_package(tmp_path / str(n), "potsdam", ["2_10"], unknown_px={"2_10": n}) for n in (1, 2))
    shutil.move(two[0], tmp_path / "Other.zip")
    for sources, count in (([tmp_path / "Other.zip"], 2), (one, 1), ([tmp_path / "Other.zip"], 2), (one, 1)):
        importing(sources, tmp_path / "out", exact=True)
        label = np.moveaxis(pixels(tmp_path / "out", "label", "2_10"), 0, -1)
        assert (~(label[:, :, None] == PALETTE).all(-1).any(-1)).sum() == count
