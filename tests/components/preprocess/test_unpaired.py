"""Tiles that lack their DSM or their image in the store."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from components.common.data.datasets import dataset
from components.common.data.store import Store
from components.common.errors import DataError
from components.preprocess.step import run

DATASET = dataset("sample")
TRAIN = ("2_10", "2_11", "2_12", "3_10", "3_11", "3_12")
MISSING = (("2_10", "dsm"), ("3_10", "dsm"), ("4_10", "image"))


def made(raw, config, folder):
    run(config, "sample", raw, folder)
    store = Store(folder)
    return store, {entry.id: entry for entry in store.manifest.tiles}


@pytest.fixture
def stores(potsdam, config, tmp_path):
    """The same tiles, complete and with files missing."""
    raw = potsdam()
    whole = made(raw, config(), tmp_path / "whole")
    return whole, made(potsdam(missing=MISSING), config(), tmp_path / "store")


def test_an_absent_sensor_is_recorded_and_holds_no_value(stores):
    (whole, complete), (store, entries) = stores
    assert {tile: entry.sensors for tile, entry in entries.items() if len(entry.sensors) < 2} == {
        "2_10": ("rgb",),
        "3_10": ("rgb",),
        "4_10": ("dsm",),
    }
    alone, heights = store[entries["2_10"]], store[entries["4_10"]]
    assert (alone.sensors, heights.sensors) == (("rgb",), ("dsm",))
    assert np.isnan(alone.dsm_HW).all() and not heights.image_HWC.any()
    assert (entries["2_10"].dsm_missing_share, entries["4_10"].dsm_missing_share) == (1.0, 0.0)
    assert not any("image" in name for name in entries["4_10"].sources)
    assert store.manifest.data_md5 != whole.manifest.data_md5


def test_what_a_tile_has_is_stored_as_in_a_complete_tile(stores):
    (whole, complete), (store, entries) = stores
    for tile, entry in entries.items():
        ours, theirs = store[entry], whole[complete[tile]]
        np.testing.assert_array_equal(ours.label_HW, theirs.label_HW)
        np.testing.assert_array_equal(ours.eroded_HW, theirs.eroded_HW)
        assert (entry.class_px, entry.transform, entry.crs) == (
            complete[tile].class_px,
            complete[tile].transform,
            complete[tile].crs,
        )
        if "rgb" in entry.sensors:
            np.testing.assert_array_equal(ours.image_HWC, theirs.image_HWC)
        if "dsm" in entry.sensors:
            np.testing.assert_array_equal(ours.dsm_HW, theirs.dsm_HW)


def test_the_range_of_the_heights_comes_from_the_tiles_that_have_them(potsdam, config, tmp_path):
    raw = potsdam(missing=[(tile, "dsm") for tile in TRAIN[1:]] + [(TRAIN[0], "image")])
    store, _ = made(raw, config("training-range"), tmp_path / "store")
    heights = store.manifest.heights
    assert 39.5 < heights.offset_m < 40.5 and 0.5 < heights.scale_m < 1.5


def test_without_a_training_dsm_there_is_no_range(potsdam, config, tmp_path):
    raw = potsdam(missing=[(tile, "dsm") for tile in TRAIN])
    with pytest.raises(DataError, match="no training tile has a DSM, from which .* set it to above-ground"):
        run(config("training-range"), "sample", raw, tmp_path / "store")


def test_the_table_in_the_log_names_what_a_tile_lacks(potsdam, config, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run(config(), "sample", potsdam(missing=MISSING), tmp_path / "store")
    lines = [line.split() for line in caplog.messages if " x " in line]
    assert [line[0] for line in lines if "image" in line] == ["4_10"]
    assert [line[0] for line in lines if "100.00" in line] == ["2_10", "3_10"]


@pytest.mark.parametrize("missing", [[("5_10", "label")], [("5_10", "image"), ("5_10", "dsm")], [("5_10", "eroded")]])
def test_a_tile_needs_its_labels_and_a_sensor(potsdam, config, tmp_path, missing):
    with pytest.raises(DataError, match="no such file, needed for tile 5_10"):
        run(config(), "sample", potsdam(missing=missing), tmp_path / "store")


def test_an_interrupted_run_goes_on_with_unpaired_tiles(potsdam, config, tmp_path, monkeypatch):
    raw = potsdam(missing=MISSING)
    expected, _ = made(raw, config(), tmp_path / "at once")
    with monkeypatch.context() as patch:
        patch.setattr("components.preprocess.step.write_manifest", _stop)
        with pytest.raises(KeyboardInterrupt):
            run(config(), "sample", raw, tmp_path / "store")
    store, _ = made(raw, config(), tmp_path / "store")
    assert store.manifest == expected.manifest


def _stop(*_):
    raise KeyboardInterrupt
