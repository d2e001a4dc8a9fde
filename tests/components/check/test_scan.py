from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from components.check.findings import CODES
from components.common.readers import layers
from tests.repo.import_graph import ROOT


@pytest.mark.parametrize("rows", [16, 18, 64])
def test_the_facts_do_not_depend_on_the_rows_read_at_once(package, checked, monkeypatch, rows):
    folder = package(dsm_short={"2_11": 3}, dsm_nan=("2_10",), unknown_px={"2_12": 3}, dsm_coarse=("3_10",))
    complete = checked(folder).subject.tiles
    monkeypatch.setattr(layers, "BAND_ROWS", rows)
    monkeypatch.setattr(layers, "BAND_PX", 1)
    parts = checked(folder).subject.tiles
    for tile, facts in complete.items():
        for name in ("pixels", "image", "label", "eroded", "files", "reported"):
            assert getattr(parts[tile], name) == getattr(facts, name)
        if facts.dsm is not None:
            medians = facts.dsm.class_medians_m
            assert parts[tile].dsm.class_medians_m == pytest.approx(medians, abs=1e-3)
            assert dataclasses.replace(parts[tile].dsm, class_medians_m=medians) == facts.dsm


def test_a_mosaic_is_read_under_every_tile(own_data, checked):
    folder = own_data(mosaic=True)
    tiles = checked(folder, dataset="mine").subject.tiles
    with rasterio.open(folder / "all.tif") as file:
        mosaic = file.read(1)
    for tile, columns in (("a", slice(0, 64)), ("b", slice(64, 128))):
        low, high = mosaic[:, columns].min(), mosaic[:, columns].max()
        assert (tiles[tile].pixels["dsm"].lowest, tiles[tile].pixels["dsm"].highest) == (low, high)


def test_a_gap_of_a_mosaic_is_an_error_of_the_tile_under_it(own_data, rewritten, codes):
    def holed(heights_BHW):
        heights_BHW[:, :, 64 : 64 + 48] = -9999
        return heights_BHW

    folder = own_data(mosaic=True)
    rewritten(folder, "all.tif", holed, nodata=-9999)
    assert codes(folder, dataset="mine") == {("dsm-missing", "b"), ("dsm-holes", "b")}


def test_heights_are_read_again_once_a_hidden_nodata_value_is_found(own_data, rewritten, checked):
    def holed(heights_BHW):
        heights_BHW[:, 5:15, 5:15] = 0
        return heights_BHW

    folder = own_data(relief_m=60)
    rewritten(folder / "h", "h_a.tif", holed)
    report = checked(folder, dataset="mine")
    assert report.subject.tiles["a"].pixels["dsm"].missing_share == pytest.approx(100 / (48 * 64))
    assert report.subject.tiles["a"].dsm.low_m >= 200
    assert {one.code for one in report.findings if one.tile == "a"} == {"dsm-nodata-found", "dsm-holes"}


def test_without_an_image_no_other_layer_is_read(package, checked):
    report = checked(package(truncated=[("2_10", "image")]))
    facts = report.subject.tiles["2_10"]
    assert (dict(facts.files), dict(facts.pixels), facts.label) == ({}, {}, None)
    assert [one.code for one in report.findings if one.tile == "2_10"] == ["unreadable"]


def test_pixels_are_compared_on_the_grid_of_the_image(own_data, rewritten, checked):
    """A label that covers more than its image gives the same class counts as one that was cut to it."""
    folder = own_data()
    before = checked(folder, dataset="mine").subject.tiles["a"].label.class_px

    def buffered(values_BHW):
        return np.pad(values_BHW, ((0, 0), (7, 7), (7, 7)), constant_values=9)

    with rasterio.open(folder / "labels/a.tif") as file:
        place = file.transform @ Affine.translation(-7, -7)
    rewritten(folder / "labels", "a.tif", buffered, transform=place)
    assert checked(folder, dataset="mine").subject.tiles["a"].label.class_px == before


def test_every_code_is_shown_by_a_test():
    tests = "".join(path.read_text() for path in (ROOT / "tests/components/check").glob("test_*.py"))
    assert [code for code in CODES if f'"{code}"' not in tests] == []
