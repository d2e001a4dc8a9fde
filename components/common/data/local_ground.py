"""The ground under a DSM: coarse cells of low heights, from which everything narrower than a building is removed.

In: heights `[H, W]`, metres, NaN = not measured. Out: the height of the ground under each pixel, metres.
The ground of a cell depends only on the cells within `reach_cells` of it. So a part of a raster, read with that margin,
has exactly the ground that the complete raster has there. For this reason all sums have a fixed order, and coarse
squares are counted from the raster's upper left corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.float32]
Array64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CELL_M = 0.5
"""Least side of the cells in which ground is looked for, metres; smaller ones take time and find no more."""

NEAR_GROUND_M = 1.0
"""A cell less than this above the first estimate of the ground is ground, metres."""

LOW_QUANTILE = 0.2
"""Height of a cell: above a few pits of the matching, below what sticks out of the ground in it."""

SQUARES = 8
"""The trend of the terrain is computed in squares of cells; about so many of them are as long as the radius."""

LOWEST_RADII, GROUND_RADII = 3, 2
"""How far the first and the second trend of the terrain look, in search radii."""

BAND_ROWS = 32
"""Rows of cells that are searched for outliers at once."""

FEW = 1e-6
"""Weight of a cell in the trend that is not ground: it counts only where no ground is within reach."""


@dataclass(frozen=True, slots=True)
class Ground:
    """The ground of a raster or of a part of it, in coarse cells."""

    cells: Array  # [rows, columns], metres
    first: tuple[int, int]  # row and column in the raster of the first cell
    total: tuple[int, int]  # rows and columns of cells of the raster
    cell_px: int  # side of a cell

    def under(self, rows: slice, columns: slice) -> Array:
        """Heights under pixels of the raster, `[h, w]`, metres, interpolated between the centres of cells."""
        row, down = _places(np.arange(rows.start, rows.stop), self.cell_px, self.total[0])
        column, right = _places(np.arange(columns.start, columns.stop), self.cell_px, self.total[1])
        lines = self.cells[row[0] - self.first[0] : row[-1] - self.first[0] + 2]
        lines = _between(lines, column - self.first[1], right.clip(0, 1), axis=1)
        return _between(lines, row - row[0], down.clip(0, 1), axis=0)


def cell_size(gsd_m: float) -> int:
    """Side of the cells in which ground is looked for, pixels."""
    return max(1, ceil(CELL_M / gsd_m - 0.1))  # not one pixel more for a rounding error


def radius_cells(gsd_m: float, radius_m: float) -> int:
    """The search radius in cells."""
    return max(1, round(radius_m / (gsd_m * cell_size(gsd_m))))


def reach_cells(radius: int) -> int:
    """How many cells around a cell its ground depends on.

    A part of a raster with this margin must start at a multiple of `square(radius)`, so that its squares are those of
    the complete raster.
    """
    trends, openings, median_and_spread = (1 + LOWEST_RADII + GROUND_RADII) * radius, 6 * radius, 1 + 4 * square(radius)
    return trends + openings + median_and_spread + radius + 1


def square(radius: int) -> int:
    """Side of the squares in which the trend of the terrain is computed, cells."""
    return -(-radius // SQUARES)


def cells_of(dsm_hW: Array, cell_px: int) -> Array:
    """A low quantile of each square of pixels; NaN where a square holds no measurement.

    Rows of a tile may come in parts, each but the last a multiple of `cell_px` high.
    """
    height, width = (-(-side // cell_px) for side in dsm_hW.shape)
    lacking = ((0, height * cell_px - dsm_hW.shape[0]), (0, width * cell_px - dsm_hW.shape[1]))
    if lacking != ((0, 0), (0, 0)):
        dsm_hW = np.pad(dsm_hW, lacking, constant_values=np.nan)
    squares = np.array(dsm_hW.reshape(height, cell_px, width, cell_px).swapaxes(1, 2), order="C")
    squares = squares.reshape(height, width, cell_px * cell_px)
    holey = np.isnan(squares.min(-1)) if np.isnan(squares.min()) else None
    filled = _ranked(squares[holey], LOW_QUANTILE) if holey is not None else None
    rank = int(LOW_QUANTILE * (squares.shape[-1] - 1))
    squares.partition(rank, axis=-1)
    cells = squares[..., rank].copy()
    if holey is not None:
        cells[holey] = filled
    return cells


def ground_of(cells: Array, radius: int) -> Array:
    """Height of the ground in each cell, metres; any finite value farther than `radius` from measured cells.

    Ground is what remains when everything narrower than `2 * radius` is removed (a grey opening). It is removed from
    the heights above the trend of the terrain, so that slopes stay. A first trend follows the lowest cells; with it, a
    first opening finds the cells on the ground, and the second trend follows these. An object that a hole or the
    raster's edge cuts is assumed to have ground on its other side.

    Args:
        cells: heights of the cells, `[rows, columns]`, from `cells_of`, metres; NaN = not measured.
        radius: how far to look for ground, cells.
    """
    holes = np.isnan(cells)
    smooth = _without_outliers(cells, holes)
    trend = _lowest_trend(smooth, holes, radius)
    trend = _ground_trend(smooth, holes, _near_ground(smooth - trend, holes, radius), radius)
    above = np.where(holes, np.float32(0), smooth - trend)
    ground = _opened(above, np.zeros_like(above), radius)
    ground = ndimage.gaussian_filter(ground, sigma=radius / 4, mode="nearest")
    return np.asarray(ground + trend, dtype=np.float32)


def _near_ground(above: Array, holes: Mask, radius: int) -> Mask:
    """Which cells are on the ground, or less than `NEAR_GROUND_M` above it, by an opening."""
    above = np.where(holes, np.float32(np.inf), above)
    low = ndimage.minimum_filter(above, size=4 * radius + 1, mode="nearest")
    ground = _opened(np.where(holes, low, above), low, radius)
    return ~holes & (above - NEAR_GROUND_M < ground)


def _opened(cells: Array, beyond: Array, radius: int) -> Array:
    """A grey opening; `beyond` gives, at the edge cells, the heights outside of the raster."""
    framed = np.pad(beyond, radius, mode="edge")
    framed[radius:-radius, radius:-radius] = cells
    opened = ndimage.grey_opening(framed, size=(2 * radius + 1,) * 2, mode="nearest")
    return np.asarray(opened[radius:-radius, radius:-radius])


def _lowest_trend(cells: Array, holes: Mask, radius: int) -> Array:
    """The trend of the lowest cells within `radius`; where holes or the edge hide some of these, they count less."""
    side = square(radius)
    reach = radius // side
    low = _folded(np.where(holes, np.float32(np.inf), cells), side, np.minimum, np.inf)
    low = ndimage.minimum_filter(low, size=2 * reach + 1, mode="constant", cval=np.inf)
    seen = _folded((~holes).astype(np.float64), side, np.add, 0.0)
    for axis in (0, 1):
        seen = ndimage.correlate1d(seen, np.ones(2 * reach + 1), axis=axis, mode="constant")
    weights = (seen / (side * (2 * reach + 1)) ** 2) ** 4
    return _spread(
        _fitted(weights, np.where(seen > 0, low, 0) * weights, LOWEST_RADII * radius // side), cells.shape, side
    )


def _ground_trend(cells: Array, holes: Mask, near: Mask, radius: int) -> Array:
    """The trend of the ground; other cells count only where there is no ground within reach."""
    side = square(radius)
    weights = np.where(near, 1.0, np.where(holes, 0.0, FEW))
    count, total = (_folded(v, side, np.add, 0.0) for v in (weights, np.where(holes, 0.0, cells) * weights))
    return _spread(_fitted(count, total, GROUND_RADII * radius // side), cells.shape, side)


def _fitted(weights: Array64, weighted: Array64, reach: int) -> Array:
    """Height at the centre of each square of the plane that fits the squares around it best, by least squares.

    Small slopes are preferred where the squares that count are hardly wider than a square or two; 0 where none counts.

    Args:
        weights: of the squares.
        weighted: their heights times their weights.
        reach: how many squares far to look; weights fall smoothly to 0 there.
    """
    step = np.arange(-reach, reach + 1, dtype=np.float64)
    flat = (1 - (step / (reach + 1)) ** 2) ** 2
    kernels = flat, flat * step, flat * step * step

    def moments(values: Array64, highest: int) -> dict[tuple[int, int], Array64]:
        """Sums over the neighbourhood of values times powers of the distance down and to the right."""
        down = [ndimage.correlate1d(values, kernel, axis=0, mode="constant") for kernel in kernels[: highest + 1]]
        pairs = [(i, j) for i in range(highest + 1) for j in range(highest + 1 - i)]
        return {(i, j): ndimage.correlate1d(down[i], kernels[j], axis=1, mode="constant") for i, j in pairs}

    m, z = moments(weights, 2), moments(weighted, 1)
    there = m[0, 0] > 0
    mass = np.where(there, m[0, 0], 1.0)
    y, x, mean = m[1, 0] / mass, m[0, 1] / mass, z[0, 0] / mass
    yy, xx, xy = m[2, 0] / mass - y * y + 1, m[0, 2] / mass - x * x + 1, m[1, 1] / mass - x * y
    yz, xz = z[1, 0] / mass - y * mean, z[0, 1] / mass - x * mean
    both = yy * xx - xy * xy
    centres = np.where(there, mean - (y * (yz * xx - xz * xy) + x * (xz * yy - yz * xy)) / both, 0)
    return centres.astype(np.float32)


def _folded(values: npt.NDArray[Any], side: int, fold: np.ufunc, empty: float) -> npt.NDArray[Any]:
    """All values of each square of cells as one; at the lower and right edge, squares are filled with `empty`."""
    padded = np.pad(values, [(0, -size % side) for size in values.shape], constant_values=empty)
    rows = reduce(fold, [padded[i::side] for i in range(side)])
    return np.asarray(reduce(fold, [rows[:, i::side] for i in range(side)]))


def _spread(centres: Array, shape: tuple[int, ...], side: int) -> Array:
    """Values of cells from those at the centres of squares, linearly interpolated, and extrapolated at the edge."""
    for axis, size in enumerate(shape):
        before, part = _places(np.arange(size), side, centres.shape[axis])
        centres = _between(centres, before, part, axis)
    return centres


def _without_outliers(cells: Array, holes: Mask) -> Array:
    """The median of each cell and its eight neighbours, as far as they are measured; any value in holes."""
    framed, result = np.pad(cells, 1, mode="edge"), np.empty_like(cells)
    for first in range(0, len(cells), BAND_ROWS):  # few enough for the processor's cache
        band = framed[first : first + BAND_ROWS + 2]
        low, middle, high = _sorted(band[:-2], band[1:-1], band[2:])
        lowest = np.maximum(np.maximum(low[:, :-2], low[:, 1:-1]), low[:, 2:])
        highest = np.minimum(np.minimum(high[:, :-2], high[:, 1:-1]), high[:, 2:])
        middle = _sorted(middle[:, :-2], middle[:, 1:-1], middle[:, 2:])[1]
        result[first : first + BAND_ROWS] = _sorted(lowest, middle, highest)[1]
    rows, columns = np.nonzero(np.isnan(result) & ~holes)
    if rows.size:
        around = [framed[rows + i, columns + j] for i in range(3) for j in range(3)]
        result[rows, columns] = _ranked(np.stack(around, axis=-1), 0.5)
    return result


def _sorted(a: Array, b: Array, c: Array) -> tuple[Array, Array, Array]:
    """Three arrays in ascending order, in each place; NaN where one is NaN."""
    a, b = np.minimum(a, b), np.maximum(a, b)
    b, c = np.minimum(b, c), np.maximum(b, c)
    return np.minimum(a, b), np.maximum(a, b), c


def _ranked(values: Array, quantile: float) -> Array:
    """A quantile of each row of values that hold NaN; NaN where all are."""
    ranked = np.sort(values, axis=-1)  # NaN goes last
    valid = np.isfinite(ranked).sum(-1)
    rank = (quantile * (valid - 1).clip(min=0)).astype(np.intp)
    return np.take_along_axis(ranked, rank[:, None], axis=-1)[:, 0]


def _places(small: npt.NDArray[np.intp], side: int, total: int) -> tuple[npt.NDArray[np.intp], Array]:
    """For rows or columns: the larger square whose centre is before each, and which part of the way to the next it is.

    In whole numbers, so that the parts of a raster get the same result. At the edge a part is below 0 or above 1.
    """
    halves = 2 * small + 1 - side  # from the first centre, in half rows
    before = (halves // (2 * side)).clip(0, max(total - 2, 0))
    return before, ((halves - before * (2 * side)) / (2 * side)).astype(np.float32)


def _between(values: Array, before: npt.NDArray[np.intp], part: Array, axis: int) -> Array:
    """Values at places between the indices of an axis: `part` of the way from `before` to the next one."""
    after = np.minimum(before + 1, values.shape[axis] - 1)
    result, step = (values.take(index, axis=axis) for index in (before, after))  # unlike [:, index], in C order
    step -= result
    step *= np.expand_dims(part, 1 - axis)
    result += step
    return result
