"""Tiles that lack their DSM or their image: allowed, counted per subset, and never silent."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from components.check.report import as_document
from components.check.step import examine, run
from components.common.data import datasets
from components.common.data.config import DataConfig
from components.common.data.rawtree import RawTree, write_raw_tree
from components.common.errors import DataError
from components.common.readers.tiles import ReaderSettings

SPLIT = datasets.Split("mine", train=("2_10", "2_11", "2_12"), val=("3_10",), test=("3_11",))
READER = ReaderSettings(8, 0.001)


@pytest.fixture
def tree(package, checked):
    """A package as imported; files of some tiles are missing, and some were found but cannot be read."""

    def tree(*missing, unreadable=None) -> RawTree:
        folder = package(missing=missing)
        tiles = {tile: dict(facts.places) for tile, facts in checked(folder).subject.tiles.items()}
        return RawTree(folder, "isprs", datasets.dataset("potsdam"), tiles, unreadable or {})

    return tree


def lines(report, code):
    return [one.line for one in report.findings if one.code == code]


def test_a_subset_that_lacks_sensors_says_how_many_tiles_have_them(tree, config):
    raw = tree(("2_10", "dsm"), ("2_12", "image"), ("2_11", "dsm"))
    report = examine(raw, (SPLIT,), True, config(), READER)
    assert lines(report, "unpaired") == [
        "train: 1 of 3 tiles have a DSM; without: 2_10, 2_11 (looked for 1_DSM/dsm_potsdam_02_10.tif); add the file if "
        "it should be there; without it, the tile is used with its other sensor",
        "train: 2 of 3 tiles have an image; without: 2_12 (looked for 2_Ortho_RGB/top_potsdam_2_12_RGB.tif); add the "
        "file if it should be there; without it, the tile is used with its other sensor",
    ]
    assert {(one.code, one.severity) for one in report.findings} == {
        ("unpaired", "warning"),
        ("sensor-absent", "warning"),
    }
    assert [line.partition(";")[0] for line in lines(report, "sensor-absent")] == [
        "train: none of the 3 tiles has both sensors"
    ]
    assert as_document(report)["coverage"] == {
        "train": {"tiles": 3, "image": 2, "dsm": 1, "both": 0},
        "val": {"tiles": 1, "image": 1, "dsm": 1, "both": 1},
        "test": {"tiles": 1, "image": 1, "dsm": 1, "both": 1},
    }


def test_a_subset_without_a_sensor_is_a_warning(tree, config):
    report = examine(tree(("3_10", "dsm")), (SPLIT,), True, config(), READER)
    assert [line.partition(";")[0] for line in lines(report, "sensor-absent")] == ["val: none of the 1 tiles has a DSM"]
    assert {one.severity for one in report.findings} == {"warning"}


def test_without_a_split_all_tiles_are_counted_together(tree, config):
    report = examine(tree(("2_10", "dsm")), (SPLIT,), False, config(), READER)
    assert [line.partition(";")[0] for line in lines(report, "unpaired")] == ["4 of 5 tiles have a DSM"]
    assert as_document(report)["coverage"] == {"all": {"tiles": 5, "image": 5, "dsm": 4, "both": 4}}


def test_a_tile_without_an_image_is_checked_on_the_grid_of_its_dsm(tree, config):
    raw = tree()
    without = {kind: place for kind, place in raw.tiles["2_10"].items() if kind != "image"}
    whole = examine(raw, (SPLIT,), True, config(), READER).subject.tiles["2_10"]
    raw = replace(raw, tiles={**raw.tiles, "2_10": without})
    facts = examine(raw, (SPLIT,), True, config(), READER).subject.tiles["2_10"]
    assert facts.grid == whole.grid == facts.files["dsm"].grid
    assert (facts.label, facts.eroded, facts.pixels["dsm"]) == (whole.label, whole.eroded, whole.pixels["dsm"])
    assert facts.image is None


def test_a_tile_with_neither_sensor_is_an_error(tree, config):
    report = examine(tree(("2_10", "image"), ("2_10", "dsm")), (SPLIT,), True, config(), READER)
    errors = [one for one in report.findings if one.severity == "error"]
    assert {(one.code, one.tile) for one in errors} == {("file-missing", "2_10")}
    assert all("has neither an image nor a DSM of its own" in one.sentence for one in errors)


def test_heights_of_all_tiles_give_no_tile_its_grid(tree, config):
    raw = tree(("2_10", "image"))
    one_file = replace(raw.dataset, dsm=replace(raw.dataset.dsm, files="heights.tif"))
    report = examine(replace(raw, dataset=one_file), (SPLIT,), True, config(), READER)
    assert [one.code for one in report.findings if one.tile == "2_10" and one.severity == "error"] == ["file-missing"]


def test_a_damaged_file_is_an_error_and_not_a_tile_that_lacks_it(tree, config):
    raw = tree(("2_10", "dsm"), unreadable={"2_10": ("dsm",)})
    report = examine(raw, (SPLIT,), True, config(), READER)
    (one,) = [one for one in report.findings if one.severity == "error"]
    assert (one.code, one.tile) == ("file-missing", "2_10")
    assert "the dsm of the tile cannot be read and was left out by the import" in one.sentence


def test_the_step_goes_on_and_warns_in_its_log(tree, config, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(datasets, "split", lambda *_: SPLIT)
    raw = tree(("2_10", "dsm"))
    write_raw_tree(raw)
    data = DataConfig(
        source="isprs", dataset="potsdam", split="mine", image=None, dsm=None, path="x", repo=None, rev=None, crs=None
    )
    with caplog.at_level(logging.WARNING):
        run(data, config(), READER, raw.folder, tmp_path / "report.json")
    assert "train: 2 of 3 tiles have a DSM; without: 2_10" in caplog.text
    write_raw_tree(replace(raw, unreadable={"2_10": ("dsm",)}))
    with pytest.raises(DataError, match="1 error, the first in tile 2_10: the dsm of the tile cannot be read"):
        run(data, config(), READER, raw.folder, tmp_path / "report.json")
