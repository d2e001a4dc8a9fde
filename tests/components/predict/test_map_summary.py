from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from rasterio import Affine

from components.predict.outputs import map_summary
from tests.components.predict import drawn_maps as known

SCHEMA = json.loads(Path(map_summary.__file__).with_name("map_summary.schema.json").read_text())


def summary_of(tmp_path, raster, **changes):
    _, summary = known.write_map(tmp_path / "map.tif", known.facts(raster, layers=("classes",), **changes))
    jsonschema.validate(summary, SCHEMA)
    return summary


def test_areas_shares_and_coverage_add_up(tmp_path):
    summary = summary_of(tmp_path, known.grid(70, 50))
    pixels = [entry["pixels"] for entry in summary["classes"]]
    assert sum(pixels) == 68 * 50  # rows 3 and 4 have no class
    assert [entry["share"] for entry in summary["classes"]] == [n / 3400 for n in pixels]
    assert sum(entry["area_m2"] for entry in summary["classes"]) == pytest.approx(3400 * 0.25, rel=2e-3)  # scale of UTM
    assert summary["sensors"] == pytest.approx(
        {"none": 100 / 3500, "image": 680 / 3500, "DSM": 0, "image and DSM": 2720 / 3500}
    )
    assert summary["raster"]["bounds"] == [400_000, 4_999_965, 400_025, 5_000_000]
    assert summary["raster"]["crs"] == "EPSG:32633"


def test_areas_of_web_mercator_are_those_on_the_ground(tmp_path):
    transform = Affine(1, 0, 1_000_000, 0, -1, 8_399_738)  # 60 degrees north: a metre of the map is half a metre
    summary = summary_of(tmp_path, known.grid(70, 50, transform, "EPSG:3857"))
    assert sum(entry["area_m2"] for entry in summary["classes"]) == pytest.approx(3400 * 0.25, rel=0.01)


def test_areas_in_degrees_are_square_metres(tmp_path):
    transform = Affine(1e-5, 0, 13, 0, -1e-5, 60)  # 0.557 m by 1.114 m
    summary = summary_of(tmp_path, known.grid(70, 50, transform, "EPSG:4326"))
    assert sum(entry["area_m2"] for entry in summary["classes"]) == pytest.approx(3400 * 0.557 * 1.114, rel=0.01)


def test_areas_are_summed_over_blocks(tmp_path, monkeypatch):
    one = summary_of(tmp_path, known.grid(70, 50))
    monkeypatch.setattr(map_summary, "BLOCK_PX", 16)
    many = summary_of(tmp_path, known.grid(70, 50))
    for entry, other in zip(one["classes"], many["classes"], strict=True):
        assert entry["pixels"] == other["pixels"]
        assert entry["area_m2"] == pytest.approx(other["area_m2"], rel=1e-6)


def test_a_raster_without_position_has_pixels_but_no_area(tmp_path):
    summary = summary_of(tmp_path, known.Grid(70, 50, None, None), model_version=None)
    assert {entry["area_m2"] for entry in summary["classes"]} == {None}
    assert summary["raster"]["bounds"] is summary["raster"]["crs"] is summary["model"]["version"] is None
