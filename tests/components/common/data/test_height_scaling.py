from dataclasses import replace

import numpy as np
import pytest

from components.common.data.height_scaling import histogram, merged, scaled
from components.common.data.store import Heights

GSD_M = 0.25
SIDE = 320  # 80 m
UNSCALED = Heights("above-ground", 0.0, 1.0, 12.0, None, (-1e9, 1e9), "datum")


def above_ground(dsm_HW, *, gsd_m, radius_m):
    """Metres above the ground."""
    return scaled(dsm_HW, replace(UNSCALED, ground_radius_m=radius_m), gsd_m)


def scene(slope=0.0):
    """Sloping ground at 40 m with noise, three buildings (two of them cut by the edge), and their heights."""
    rows, columns = np.mgrid[:SIDE, :SIDE] * GSD_M
    ground_HW = 40 + slope * columns + 0.3 * np.sin(rows / 19)
    buildings_HW = np.zeros((SIDE, SIDE))
    buildings_HW[120:180, 100:170] = 6.0  # 15 x 17 m
    buildings_HW[220:290, 0:60] = 9.0
    buildings_HW[:50, 260:] = 4.0
    noise_HW = np.random.default_rng(0).normal(0, 0.03, (SIDE, SIDE))
    return (ground_HW + buildings_HW + noise_HW).astype(np.float32), buildings_HW


@pytest.mark.parametrize("slope", [0.0, 0.02, 0.05])
def test_buildings_stand_at_their_height_on_flat_and_on_sloping_ground(slope):
    dsm_HW, buildings_HW = scene(slope)
    error_HW = above_ground(dsm_HW, gsd_m=GSD_M, radius_m=12.0) - buildings_HW
    assert np.abs(np.median(error_HW)) < 0.15
    assert np.quantile(np.abs(error_HW), 0.99) < 0.5
    assert np.abs(error_HW).max() < 1.0


def test_outliers_and_holes_do_not_move_the_ground_around_them():
    dsm_HW, buildings_HW = scene()
    spoilt_HW = dsm_HW.copy()
    spoilt_HW[200:202, 200:202] -= 30
    spoilt_HW[30, 30] += 500
    spoilt_HW[60:90, 200:240] = np.nan
    spoilt_HW[130:150, 120:140] = np.nan
    clean_HW, got_HW = (above_ground(h, gsd_m=GSD_M, radius_m=12.0) for h in (dsm_HW, spoilt_HW))
    touched_HW = ~(dsm_HW == spoilt_HW)
    assert np.isnan(got_HW).sum() == 30 * 40 + 20 * 20
    assert np.nanmax(np.abs(got_HW - clean_HW)[~touched_HW]) < 0.2


BUILDING = (slice(120, 180), slice(100, 170))
HOLES = {
    "next to a building": (slice(120, 180), slice(170, 200)),
    "around a corner of it": (slice(170, 200), slice(90, 120)),
    "over half of it": (slice(120, 180), slice(130, 180)),
    "larger than the search radius": (slice(190, 310), slice(90, 230)),
    "at the edge of the tile": (slice(60, 130), slice(280, 320)),
    "in the middle of nowhere": (slice(60, 90), slice(200, 240)),
}


@pytest.mark.parametrize("slope", [0.0, 0.05])
@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_does_not_change_the_ground_of_measured_pixels_around_it(hole, slope):
    dsm_HW, _ = scene(slope)
    holey_HW = dsm_HW.copy()
    holey_HW[HOLES[hole]] = np.nan
    whole_HW, got_HW = (above_ground(heights_HW, gsd_m=GSD_M, radius_m=12.0) for heights_HW in (dsm_HW, holey_HW))
    np.testing.assert_array_equal(np.isnan(got_HW), np.isnan(holey_HW))
    assert np.nanmax(np.abs(got_HW - whole_HW)) < 0.15


def test_the_radius_is_in_metres_whatever_the_pixel():
    dsm_HW, _ = scene()
    building = (slice(130, 170), slice(110, 160))  # 15 x 17 m with pixels of 0.25 m, 60 x 68 m with pixels of 1 m
    for gsd_m in (GSD_M, 4 * GSD_M):
        wide, narrow = (above_ground(dsm_HW, gsd_m=gsd_m, radius_m=gsd_m * px)[building] for px in (48, 8))
        assert np.median(wide) == pytest.approx(6.0, abs=0.2)
        assert np.median(narrow) < 0.5  # much wider than the search radius: ground


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (57, 91)])
def test_any_size_of_tile_has_heights(shape):
    heights_HW = above_ground(np.full(shape, 33.0, np.float32), gsd_m=0.05, radius_m=12.0)
    assert (heights_HW.shape, heights_HW.dtype) == (shape, np.float32)
    np.testing.assert_allclose(heights_HW, 0, atol=1e-4)


def test_a_tile_without_heights_stays_without():
    assert np.isnan(above_ground(np.full((30, 30), np.nan, np.float32), gsd_m=0.05, radius_m=12.0)).all()


def test_without_any_height_the_percentiles_are_zero():
    empty = histogram(np.full((3, 3), np.nan, np.float32))
    assert merged([empty, empty]).percentiles((2.0, 98.0)) == (0.0, 0.0)
    assert merged([]).offset_and_scale((2.0, 98.0)) == (0.0, 0.1)


def test_a_histogram_gives_the_percentiles_of_the_heights_to_a_centimetre():
    heights_HW = np.random.default_rng(0).gamma(2.0, 5.0, (200, 300)).astype(np.float32) - 20
    heights_HW[:3] = np.nan
    got = histogram(heights_HW).percentiles((2.0, 98.0))
    np.testing.assert_allclose(got, np.nanpercentile(heights_HW, [2, 98]), atol=0.011)


def test_histograms_add_up_whatever_their_order():
    parts = [np.random.default_rng(i).normal(30 + 40 * i, 5, (40, 50)).astype(np.float32) for i in range(3)]
    together = histogram(np.concatenate(parts))
    for order in ((0, 1, 2), (2, 0, 1)):
        got = merged(histogram(parts[i]) for i in order)
        assert got.first_bin == together.first_bin
        np.testing.assert_array_equal(got.counts, together.counts)


def test_per_tile_scales_each_tile_by_its_own_percentiles():
    heights = Heights("per-tile", None, None, None, (0.0, 100.0), (-0.5, 2.0), "datum")
    low_HW = np.linspace(0, 10, 1001, dtype=np.float32).reshape(7, 143)
    for tile_HW in (low_HW, low_HW * 5 + 200):
        got_HW = scaled(tile_HW, heights, 0.05)
        assert (got_HW.min(), got_HW.max()) == pytest.approx((0, 1), abs=2e-3)


def test_flat_land_is_not_blown_up_to_noise():
    heights = Heights("per-tile", None, None, None, (2.0, 98.0), (-0.5, 2.0), "datum")
    flat_HW = np.full((50, 50), 40.0, np.float32)
    flat_HW[::2] += 0.01
    assert np.ptp(scaled(flat_HW, heights, 0.05)) < 0.2


def test_heights_above_the_ground_divide_by_the_scale():
    dsm_HW, _ = scene()
    np.testing.assert_allclose(
        scaled(dsm_HW, replace(UNSCALED, scale_m=10.0), GSD_M),
        above_ground(dsm_HW, gsd_m=GSD_M, radius_m=12.0) / 10,
        atol=1e-6,
    )


def test_a_dsm_that_is_relative_to_the_ground_is_taken_as_it_is():
    metres_HW = np.array([[0, 1.2, 20, 25.5]], np.float32)
    heights = Heights("above-ground", 0.0, 10.0, None, None, (-0.5, 2.0), "ground")
    np.testing.assert_allclose(scaled(metres_HW, heights, GSD_M), [[0, 0.12, 2.0, 2.0]], rtol=1e-6)


METHODS = {
    "above-ground": Heights("above-ground", 0.0, 10.0, 12.0, None, (-0.5, 2.0), "datum"),
    "training-range": Heights("training-range", 40.0, 10.0, None, None, (-0.5, 2.0), "datum"),
    "per-tile": Heights("per-tile", None, None, None, (2.0, 98.0), (-0.5, 2.0), "datum"),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_clips_outliers_keeps_holes_and_leaves_its_input_alone(method):
    dsm_HW, _ = scene()
    dsm_HW[200, 200], dsm_HW[210, 210], dsm_HW[220, 220] = 8000.0, -400.0, np.nan
    before_HW = dsm_HW.copy()
    got_HW = scaled(dsm_HW, METHODS[method], GSD_M)
    assert got_HW.dtype == np.float32
    assert (got_HW[200, 200], got_HW[210, 210]) == (2.0, -0.5)
    assert np.argwhere(np.isnan(got_HW)).tolist() == [[220, 220]]
    np.testing.assert_array_equal(dsm_HW, before_HW)
