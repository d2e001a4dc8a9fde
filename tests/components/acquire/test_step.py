from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.acquire import step
from components.acquire.step import DataConfig, SampleConfig, run
from components.common import isprs
from components.common.errors import DataError, ParamsError
from components.common.params import from_mapping

SAMPLE = SampleConfig(seed=7, side_px=256)


def data(**changes: object) -> DataConfig:
    return DataConfig(**({"source": "isprs", "dataset": "potsdam", "path": None, "crs": None} | changes))  # type: ignore[arg-type]


@pytest.fixture
def given(tmp_path: Path) -> Path:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "top_potsdam_2_10_RGB.tif").write_text("image")
    return tmp_path / "given"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A raw folder from an earlier run."""
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "earlier.tif").write_text("earlier")
    return tmp_path / "data" / "raw"


def test_the_raw_folder_is_replaced_and_says_where_it_is_from(given, raw, caplog) -> None:
    caplog.set_level("INFO")
    result = run(data(path=str(given)), SAMPLE, raw)
    assert (result.raw, result.dataset, result.crs, result.tiles) == (raw, "potsdam", "EPSG:32633", ("2_10",))
    assert json.loads((raw / "source.json").read_text()) == {
        "source": "isprs",
        "dataset": "potsdam",
        "crs": "EPSG:32633",
    }
    assert {path.name for path in raw.rglob("*.tif")} == {"top_potsdam_2_10_RGB.tif"}
    assert isprs.acknowledgement("potsdam") in caplog.text


def test_a_given_reference_system_replaces_the_usual_one(given, raw) -> None:
    assert run(data(path=str(given), crs="EPSG:25833"), SAMPLE, raw).crs == "EPSG:25833"
    assert json.loads((raw / "source.json").read_text())["crs"] == "EPSG:25833"


def test_the_sample_is_written_with_its_acknowledgement(raw, caplog, monkeypatch) -> None:
    monkeypatch.setattr(step, "write_city", lambda seed, side_px, folder: (f"{seed}_{side_px}",))
    caplog.set_level("INFO")
    result = run(data(source="sample"), SAMPLE, raw)
    assert result.tiles == ("7_256",)
    assert json.loads((raw / "source.json").read_text())["source"] == "sample"
    assert isprs.acknowledgement("sample") in caplog.text


def test_an_interrupted_write_leaves_the_earlier_folder_as_it_was(raw, monkeypatch) -> None:
    def interrupted(seed: int, side_px: int, folder: Path) -> tuple[str, ...]:
        (folder / "half.tif").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(step, "write_city", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(data(source="sample"), SAMPLE, raw)
    assert [path.name for path in raw.parent.rglob("*")] == ["raw", "earlier.tif"]


def test_an_empty_source_leaves_the_earlier_folder_as_it_was(tmp_path, raw) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file of potsdam"):
        run(data(path=str(tmp_path / "empty")), SAMPLE, raw)
    assert (raw / "earlier.tif").read_text() == "earlier"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "data.path is null; expected"),
        ({"source": "sample", "path": "x"}, "data.path is 'x'; expected null"),
        ({"source": "sample", "dataset": "vaihingen"}, "data.dataset is 'vaihingen'; expected potsdam"),
        ({"path": "x", "crs": "33N"}, "data.crs is '33N'; expected null or a code like EPSG:32633"),
        ({"source": "web"}, "data.source is 'web'"),
    ],
)
def test_a_wrong_key_is_named_with_what_was_expected(changes, sentence) -> None:
    given = {"source": "isprs", "dataset": "potsdam", "path": None, "crs": None} | changes
    with pytest.raises(ParamsError) as caught:
        from_mapping(DataConfig, given, "data")
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(("seed", "side_px"), [(-1, 256), (0, 255), (0, 6001)])
def test_a_sample_out_of_range_is_refused(seed: int, side_px: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        SampleConfig(seed=seed, side_px=side_px)
