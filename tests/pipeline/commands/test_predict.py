from __future__ import annotations

from pathlib import Path

import pytest

from components.predict import step
from components.predict.config import Polygons, PredictRequest
from pipeline.cli import main


@pytest.fixture
def predict(monkeypatch, capsys, tmp_path):
    """Function that calls the command in an empty folder; returns exit code, calls of the step, and stderr."""
    monkeypatch.chdir(tmp_path)
    calls = []
    monkeypatch.setattr(step, "run", lambda config, request, trust: calls.append((config, request)))
    monkeypatch.setattr(step, "run_combine", lambda *given, **named: calls.append((*given, named)))

    def call(*words):
        monkeypatch.setattr("sys.argv", ["mobanet", "predict", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return stop.value.code or 0, calls, captured.err

    return call


def test_options_become_a_request_and_override_the_shipped_parameters(predict):
    code, calls, _ = predict(
        *("--model", "models:/city@champion", "--image", "a.tif", "--image", "b*.tif", "--dsm", "d.vrt"),
        *("--output", "map.tif", "--bands", "3,2,1", "--crs", "EPSG:2154", "--bounds", "1", "2", "3.5", "4"),
        *("--part", "2/4", "--confidence", "--gates", "--polygons", "p.gpkg", "--min-area", "2", "--simplify", "0.5"),
        *(
            "--summary",
            "s.json",
            "--allow",
            "bands",
            "--restart",
            "--overlap",
            "0.5",
            "--batch",
            "3",
            "--device",
            "cpu",
        ),
    )
    ((config, request),) = calls
    assert code == 0 and (config.overlap, config.batch_size, config.window_px) == (0.5, 3, None)
    assert request == PredictRequest(
        model="models:/city@champion",
        image=("a.tif", "b*.tif"),
        dsm=("d.vrt",),
        output=Path("map.tif"),
        bands=(3, 2, 1),
        crs="EPSG:2154",
        bounds=(1.0, 2.0, 3.5, 4.0),
        part="2/4",
        extras=frozenset({"confidence", "gates"}),
        polygons=Polygons(path=Path("p.gpkg"), min_area_m2=2.0, simplify_m=0.5),
        summary=Path("s.json"),
        allow=frozenset({"bands"}),
        restart="yes",
        device="cpu",
    )


def test_combine_passes_its_parts(predict):
    code, calls, _ = predict("combine", "1.tif", "2.tif", "--output", "map.tif", "--summary", "s.json")
    ((_, parts, output, polygons, summary, named),) = calls
    assert code == 0 and (parts, output) == ([Path("1.tif"), Path("2.tif")], Path("map.tif"))
    assert (polygons, summary, named) == (None, Path("s.json"), {"restart": "no"})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "needs --output and --image or --dsm"),
        (("--output", "map.tif"), "needs --output and --image or --dsm"),
        (("--bands", "red"), "--bands is 'red'"),
        (("--bands", "0,1,2"), "--bands is '0,1,2'"),
        (("--crs", "UTM"), "--crs is 'UTM', not a coordinate reference system"),
        (("--min-area", "3"), "--min-area and --simplify need --polygons"),
        (("--overlap", "1.5"), "predict.overlap is 1.5"),
        (("--batch", "0"), "predict.batch_size is 0"),
    ],
)
def test_a_wrong_option_is_one_sentence(predict, words, sentence):
    given = ("--image", "a.tif", "--output", "map.tif") if words and "--output" not in words else ()
    code, calls, err = predict(*given, *words)
    assert code == 2 and not calls
    assert sentence in err and len(err.splitlines()) == 1
