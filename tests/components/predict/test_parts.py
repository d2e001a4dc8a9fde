from __future__ import annotations

import pytest
from rasterio import Affine

from components.common.errors import DataError, ParamsError
from components.predict.outputs.parts import Part, Region, part_of, region_of
from tests.components.predict.drawn_maps import grid

WHOLE = Region(slice(0, 70), slice(0, 53))


@pytest.mark.parametrize("count", [1, 2, 4, 7, 70])
@pytest.mark.parametrize("region", [WHOLE, Region(slice(3, 40), slice(2, 80)), Region(slice(9, 10), slice(5, 90))])
def test_parts_cover_the_region_once_along_its_longer_side(region, count):
    count = min(count, max(region.height_px, region.width_px))
    parts = [Part(i, count).region(region) for i in range(1, count + 1)]
    along, across = ("rows", "columns") if region.height_px >= region.width_px else ("columns", "rows")
    assert all(getattr(part, across) == getattr(region, across) for part in parts)
    places = [place for part in parts for place in range(*getattr(part, along).indices(10**6))]
    assert places == list(range(*getattr(region, along).indices(10**6)))
    assert min(min(part.height_px, part.width_px) for part in parts) > 0


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "2/0", "a/b", "-1/2", "1/2/3", "", "1.5/2"])
def test_a_part_that_does_not_exist_is_an_error(text):
    with pytest.raises(ParamsError, match=f"--part {text}: expected I/N"):
        part_of(text, WHOLE)


def test_there_cannot_be_more_parts_than_pixels():
    with pytest.raises(ParamsError, match="use at most 70 parts"):
        part_of("1/71", WHOLE)
    assert part_of("70/70", WHOLE) == Part(70, 70)
    assert part_of(None, WHOLE) is None


def test_bounds_give_the_pixels_that_they_touch():
    raster = grid()  # from 400000, 5000000, pixels of 0.5 m
    assert region_of(None, raster) == WHOLE
    assert region_of((400_001, 4_999_990, 400_005, 4_999_998), raster) == Region(slice(4, 20), slice(2, 10))
    assert region_of((400_001.1, 4_999_990.1, 400_004.9, 4_999_997.9), raster) == Region(slice(4, 20), slice(2, 10))
    assert region_of((0, 0, 9e6, 9e6), raster) == WHOLE


def test_bounds_of_south_up_and_rotated_rasters_are_covered():
    south_up = grid(transform=Affine(0.5, 0, 400_000, 0, 0.5, 5_000_000))
    assert region_of((400_001, 5_000_002, 400_005, 5_000_010), south_up) == Region(slice(4, 20), slice(2, 10))
    rotated = grid(transform=Affine.translation(400_000, 5_000_000) @ Affine.rotation(90) @ Affine.scale(0.5, -0.5))
    assert region_of((400_001, 5_000_002, 400_005, 5_000_010), rotated) == Region(slice(2, 10), slice(4, 20))


def test_bounds_elsewhere_or_without_area_are_errors():
    with pytest.raises(DataError, match="outside the raster, which covers 400000 4999965 400026.5 5000000"):
        region_of((0, 0, 10, 10), grid())
    with pytest.raises(ParamsError, match="left < right"):
        region_of((5, 0, 4, 10), grid())
    with pytest.raises(ParamsError, match="left < right"):
        region_of((0, 0, float("nan"), 10), grid())
    with pytest.raises(DataError, match="has no position"):
        region_of((0, 0, 10, 10), type(grid())(70, 53, None, None))


def test_a_region_lies_where_its_pixels_are():
    part = Region(slice(4, 20), slice(2, 10)).grid(grid())
    assert (part.height_px, part.width_px) == (16, 8)
    assert part.transform @ (0, 0) == (400_001, 4_999_998)
