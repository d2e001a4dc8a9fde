import numpy as np
import pytest

from components.common.data.local_ground import (
    Ground,
    cell_size,
    cells_of,
    ground_of,
    radius_cells,
    reach_cells,
    square,
)

RADIUS = 4  # cells
NOISE_M = 0.03


def town(shape, seed=0):
    """Cells of a sloping terrain with swells, buildings of up to 8 cells, pits, and holes."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    heights = 300 + 0.07 * rows - 0.04 * columns + np.sin(rows / 31) + np.sin(columns / 23)
    for _ in range(shape[0] * shape[1] // 160):
        row, column = rng.integers(0, shape)
        heights[row : row + rng.integers(2, 9), column : column + rng.integers(2, 9)] += rng.uniform(2, 15)
    heights += rng.normal(0, NOISE_M, shape)
    heights[rng.random(shape) < 0.002] -= 25
    for _ in range(shape[0] * shape[1] // 900):
        row, column = rng.integers(0, shape)
        heights[row : row + rng.integers(1, 30), column : column + rng.integers(1, 12)] = np.nan
    return heights.astype(np.float32)


def rough(shape, seed=0):
    """Cells without anything smooth in them, a third of them holes: they depend on cells far away."""
    rng = np.random.default_rng(seed)
    heights = rng.normal(0, 3, shape).cumsum(axis=0) + rng.normal(0, 20, shape)
    return np.where(rng.random(shape) < 0.3, np.nan, heights).astype(np.float32)


@pytest.mark.parametrize("radius", [4, 17, 24])
@pytest.mark.parametrize("surface", [town, rough])
def test_a_part_with_its_margin_has_exactly_the_ground_of_the_complete_raster(surface, radius):
    reach, side = reach_cells(radius), square(radius)
    cells = surface((2 * reach + 90, 61))
    for seen, axis in ((cells, 0), (cells.T, 1)):
        whole = ground_of(seen, radius)
        for first in (reach + 5, reach + 41):
            start, inner = (first - reach) // side * side, np.arange(first, first + 30)
            part = ground_of(seen.take(np.arange(start, first + 30 + reach), axis=axis), radius)
            np.testing.assert_array_equal(part.take(inner - start, axis=axis), whole.take(inner, axis=axis))


def test_pixels_of_a_part_have_exactly_the_heights_of_the_complete_raster():
    cells = town((40, 50))
    whole = Ground(cells, (0, 0), (40, 50), 7)
    part = Ground(cells[11:30, 13:29], (11, 13), (40, 50), 7)
    rows, columns = slice(85, 200), slice(100, 190)
    expected = whole.under(slice(0, 280), slice(0, 350))[rows, columns]
    np.testing.assert_array_equal(part.under(rows, columns), expected)


def test_ground_between_two_cells_is_interpolated_between_their_centres():
    ground = Ground(np.array([[0.0, 10.0]], np.float32), (0, 0), (1, 2), 5)
    np.testing.assert_allclose(ground.under(slice(2, 3), slice(0, 10))[0], [0, 0, 0, 2, 4, 6, 8, 10, 10, 10], rtol=1e-6)


@pytest.mark.parametrize("slope", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("swell_m", [0.0, 1.0])
@pytest.mark.parametrize("missing", [False, True])
def test_the_ground_of_a_town_is_found_on_slopes_between_swells_and_next_to_holes(slope, swell_m, missing):
    side, cell_m, rng = 300, 0.5, np.random.default_rng(3)
    rows, columns = np.indices((side, side)) * cell_m
    true = 50 + slope * columns + slope / 2 * rows + swell_m * (np.sin(rows / 19) + 0.7 * np.sin(columns / 15))
    cells = (true + rng.normal(0, NOISE_M, true.shape)).astype(np.float32)
    for row in range(-30, side, 60):  # plots of 30 m, cut by the edges
        for column in range(-30, side, 60):
            (down, right), (height, width) = rng.integers(2, 16, 2), rng.integers(12, 42, 2)
            plot = cells[max(row, 0) : row + 60, max(column, 0) : column + 60]
            plot[down : down + height, right : right + width] += rng.uniform(3, 12)
    if missing:
        for row, column, height, width in rng.integers(5, 60, (12, 4)) * [5, 5, 1, 1]:
            cells[row : row + height, column : column + width] = np.nan
    error = np.abs(ground_of(cells, 24) - true)[~np.isnan(cells)]
    assert error.mean() < 0.1
    assert np.quantile(error, 0.99) < 0.4 + slope
    assert error.max() < 0.6 + 4 * slope


def test_a_hall_wider_than_the_search_does_not_raise_the_ground_around_it_much():
    rows, columns = np.indices((400, 400))
    true = 40 + 0.01 * columns
    hall = (abs(rows - 200) < 60) & (abs(columns - 200) < 60)
    ground = ground_of(np.where(hall, true + 8, true).astype(np.float32), 24)
    assert np.abs(ground - true)[~hall].max() < 1.5


def test_cells_without_a_measurement_within_reach_have_a_finite_ground():
    cells = town((200, 90))
    cells[60:] = np.nan
    assert np.isfinite(ground_of(cells, RADIUS)).all()
    assert np.isfinite(ground_of(np.full((5, 7), np.nan, np.float32), RADIUS)).all()


def test_cells_are_at_least_half_a_metre_wide_and_the_radius_is_counted_in_them():
    sizes = [(gsd_m, cell_size(gsd_m), radius_cells(gsd_m, 12.0)) for gsd_m in (0.0499, 0.05, 0.2, 0.5, 2.0, 30.0)]
    assert sizes == [(0.0499, 10, 24), (0.05, 10, 24), (0.2, 3, 20), (0.5, 1, 24), (2.0, 1, 6), (30.0, 1, 1)]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_cell_is_the_low_quantile_of_what_was_measured_in_it(share):
    rng = np.random.default_rng(0)
    dsm_HW = rng.normal(40, 5, (47, 61)).astype(np.float32)
    dsm_HW[rng.random(dsm_HW.shape) < share] = np.nan
    cells = cells_of(dsm_HW, 10)
    assert cells.shape == (5, 7)
    for row in range(5):
        for column in range(7):
            values = np.sort(dsm_HW[10 * row : 10 * row + 10, 10 * column : 10 * column + 10], axis=None)
            values = values[np.isfinite(values)]
            expected = values[int(0.2 * (values.size - 1))] if values.size else np.nan
            np.testing.assert_equal(cells[row, column], expected)
