from __future__ import annotations

import numpy as np
import pyproj
import pytest
from rasterio import Affine
from rasterio.crs import CRS

from components.common.rasterfiles.grids import Grid
from components.common.readers.footprints import footprint, neighbours, pixel_size_m, shared_ground

SIDE_PX = 200


def grid(east: float, north: float, crs: int | None = 32632, gsd: float = 0.5, degrees: float = 0.0) -> Grid:
    """A tile whose upper left corner is at a place, turned around it."""
    turned = Affine.translation(east, north) @ Affine.rotation(degrees) @ Affine.scale(gsd, -gsd)
    return Grid(SIDE_PX, SIDE_PX, turned, None if crs is None else CRS.from_epsg(crs))


def moved(east: float, north: float, source: int, target: int) -> tuple[float, float]:
    return pyproj.Transformer.from_crs(source, target, always_xy=True).transform(east, north)


@pytest.mark.parametrize(
    ("crs", "lon", "lat", "unit", "wide_m", "high_m"),
    [
        (32632, 9.0, 52.0, 0.5, 0.5 / 0.9996, 0.5 / 0.9996),  # UTM is 0.04 % too small at its meridian
        (3857, 10.0, 60.0, 1.0, 0.5013, 0.5004),  # Web Mercator: the cosine of the latitude
        (3857, 10.0, 0.0, 1.0, 1.0, 0.9933),
        (4326, 10.0, 60.0, 1e-5, 0.5580, 1.1141),
        (2263, -74.0, 40.7, 1.0, 0.3048, 0.3048),  # feet
    ],
)
def test_the_size_of_a_pixel_is_that_on_the_ground(crs, lon, lat, unit, wide_m, high_m):
    east, north = moved(lon, lat, 4326, crs)
    assert pixel_size_m(grid(east, north, crs, unit)) == pytest.approx((wide_m, high_m), rel=2e-3)


def test_the_size_of_a_pixel_of_a_turned_tile_is_that_of_its_sides():
    assert pixel_size_m(grid(500_000, 5_800_000, degrees=30)) == pytest.approx((0.5002, 0.5002), rel=1e-3)


def test_without_a_reference_system_coordinates_are_metres_and_without_a_position_there_is_no_size():
    assert pixel_size_m(grid(0, 0, None)) == (0.5, 0.5)
    assert pixel_size_m(Grid(10, 10, None, CRS.from_epsg(32632))) is None


def test_a_local_reference_system_has_its_own_unit():
    feet = CRS.from_wkt('LOCAL_CS["site",UNIT["foot",0.3048]]')
    place = Grid(10, 10, Affine.scale(1, -1), feet)
    assert pixel_size_m(place) == pytest.approx((0.3048, 0.3048))


@pytest.mark.parametrize("shift_px", [200, 199.1, 250])
def test_tiles_that_touch_share_no_ground(shift_px):
    one, other = grid(500_000, 5_800_000), grid(500_000 + shift_px * 0.5, 5_800_000)
    assert shared_ground(one, other) == (0.0, 0.0)


def test_shared_ground_is_measured_in_square_metres():
    area_m2, share = shared_ground(grid(500_000, 5_800_000), grid(500_000 + 50, 5_800_000 - 50))
    assert (area_m2, share) == (pytest.approx(2500, rel=1e-3), pytest.approx(0.25, rel=1e-3))


def test_a_tile_inside_a_larger_one_shares_all_of_itself():
    assert shared_ground(grid(500_000, 5_800_000, gsd=5), grid(500_100, 5_799_900))[1] == pytest.approx(1.0)


@pytest.mark.parametrize("other_crs", [32633, 3857, 4326, 25832, 3035])
def test_one_place_in_two_reference_systems_is_shared(other_crs):
    east, north = 762_000, 5_800_000  # near the border of two zones
    x, y = moved(east, north, 32632, other_crs)
    gsd = 0.5 / {3857: np.cos(np.radians(52.3)), 4326: 111_320.0}.get(other_crs, 1.0)
    one, other = grid(east, north), grid(x, y, other_crs, gsd)
    assert list(neighbours([one, other])) == [(0, 1)]
    area_m2, share = shared_ground(one, other)
    assert share > 0.8
    assert area_m2 == pytest.approx(share * min(np.prod(pixel_size_m(each)) for each in (one, other)) * 40_000, rel=0.1)


def test_tiles_far_apart_in_two_reference_systems_are_no_neighbours_although_their_coordinates_are_equal():
    assert list(neighbours([grid(500_000, 5_800_000, 32632), grid(500_000, 5_800_000, 32633)])) == []


def test_a_turned_neighbour_shares_only_what_lies_in_both_outlines():
    """The box around a tile turned by 45 degrees overlaps the next tile; the tile itself does not."""
    one = grid(500_000, 5_800_000)
    turned = grid(500_000 + 171, 5_800_000, degrees=45)
    assert footprint(turned).bounds[0] == pytest.approx(500_171)
    near = grid(500_000 - 60, 5_800_000 + 60, degrees=45)
    assert footprint(near).envelope.intersects(footprint(one))
    assert shared_ground(one, near)[1] < footprint(near).envelope.intersection(footprint(one)).area / 10_000


def test_tiles_on_both_sides_of_the_180th_meridian_are_compared():
    east, north = moved(179.9999, -17.0, 4326, 32760)
    x, y = moved(east, north, 32760, 32701)
    one, other = grid(east, north, 32760), grid(x, y, 32701)
    assert list(neighbours([one, other])) == [(0, 1)]
    assert shared_ground(one, other)[1] > 0.8


def test_tiles_without_a_reference_system_are_compared_among_themselves():
    local = [grid(0, 0, None), grid(50, -50, None)]
    assert list(neighbours([local[0], grid(0, 0), local[1], Grid(5, 5, None, None)])) == [(0, 2)]
    assert shared_ground(*local)[1] == pytest.approx(0.25)


def test_an_outline_has_points_along_its_edges_so_that_it_bends_with_the_projection():
    outline = footprint(grid(500_000, 5_800_000))
    assert outline.length == pytest.approx(4 * SIDE_PX * 0.5)
    assert len(outline.exterior.coords) > 100
