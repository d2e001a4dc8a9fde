"""`mobanet watch`: options, table and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from components.watch import watching
from components.watch.config import WatchRequest
from pipeline.cli import main

ROOT = Path(__file__).parents[3]
WATCH = {"windows": 64, "max_psi": 0.25, "max_ks": 0.1, "level": 0.01, "seed": 1}


def content(drifted):
    row = {
        "name": "band_red",
        "title": "Band red",
        "measure": "psi",
        "distance": 0.5,
        "limit": 0.25,
        "drifted": drifted,
    }
    missing = {"name": "height", "title": "Height", "measure": "ks", "distance": None, "limit": 0.1, "drifted": False}
    return {"drifted": drifted, "statistics": [row, missing]}


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Function that calls the command with a result; returns exit code, calls, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    document = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"watch": WATCH}
    Path("params.yaml").write_text(yaml.safe_dump(document))
    calls = []

    def run(*words, drifted=False):
        monkeypatch.setattr(watching, "observe", lambda *given: calls.append(given) or content(drifted))
        monkeypatch.setattr("sys.argv", ["mobanet", "watch", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return stop.value.code or 0, calls, captured.out, captured.err

    return run


def test_options_become_a_request(call):
    code, calls, _, _ = call(
        *("--model", "package", "--image", "images", "--dsm", "heights", "--crs", "EPSG:2154", "--reports", "out"),
    )
    ((config, request, tracking, experiment),) = calls
    assert (code, config.windows, tracking, experiment) == (0, 64, "mlflow", "mobanet")
    assert request == WatchRequest(
        model="package", image="images", dsm="heights", crs="EPSG:2154", reports=Path("out"), device="auto"
    )


def test_drift_prints_the_table_and_exits_with_1(call):
    code, _, out, err = call("--image", "images", drifted=True)
    assert out.splitlines() == [
        "statistic      distance  limit",
        "Band red, PSI     0.500  0.250  drift",
        "Height, KS            -  0.100",
    ]
    assert (code, err.strip()) == (1, "error: drift in Band red; see reports/drift.html")


def test_json_is_the_content_of_the_report(call):
    code, _, out, _ = call("--image", "images", "--json")
    assert (code, json.loads(out)) == (0, content(False))


def test_scenes_can_be_arguments(call):
    _, calls, _, _ = call("a.tif,a_dsm.tif", "b.tif")
    request = calls[0][1]
    assert json.loads(request.image) == {"001": "a.tif", "002": "b.tif"}
    assert json.loads(request.dsm) == {"001": "a_dsm.tif"}


@pytest.mark.parametrize("words", [("a,b,c",), (",a",), ("a,",), ("a", "--image", "b")])
def test_arguments_that_name_no_scene_are_one_sentence(call, words):
    code, calls, _, err = call(*words)
    assert (code, calls) == (2, []) and len(err.strip().splitlines()) == 1
