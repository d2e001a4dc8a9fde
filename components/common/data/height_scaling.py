"""DSM -> scaled heights: above the local ground, or over a range of heights; outliers limited, holes left as NaN.

In: heights `[H, W]`, metres, NaN = not measured. Out: `(metres - offset_m) / scale_m` limited to `clip`.
The raw minimum and maximum of a tile are never used: one bad pixel would set the scale. Everything works on bands of
rows, so that a tile need not fit into memory; training data and prediction use the same functions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from components.common.data.store import Heights

Array = npt.NDArray[np.float32]

PLAUSIBLE_M = (-500.0, 9000.0)
"""Lowest and highest land, roughly. A value beyond means "not measured", whatever the file says: -9999, 3.4e38."""

BIN_M = 0.01
"""Resolution of the histogram of heights, metres."""

SMALLEST_RANGE_M = 0.1
"""Least height that becomes 1.0, so that noise on flat land is not blown up."""

CELL_M = 0.5
"""Side of the cells in which ground is looked for, metres."""

NEAR_GROUND_M = 1.0
"""A cell less than this above the first estimate of the ground is ground, metres."""

LOW_QUANTILE = 0.2
"""Height of a cell: above a few pits of the matching, below what sticks out of the ground in it."""


BAND_ROWS = 64
"""Rows of a tile that are scaled at once."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often each height occurs, in bins of `BIN_M`."""

    first_bin: int  # its heights start at first_bin * BIN_M
    counts: npt.NDArray[np.int64]

    def percentiles(self, percents: tuple[float, float]) -> tuple[float, float]:
        """Heights below which these shares lie, metres, to a bin; 0.0 where nothing was measured."""
        below = np.cumsum(self.counts)
        if not below.size:
            return 0.0, 0.0
        bins = np.searchsorted(below, np.array(percents) / 100 * below[-1]).clip(max=below.size - 1)
        low, high = ((self.first_bin + bins + 0.5) * BIN_M).tolist()
        return low, high

    def offset_and_scale(self, percents: tuple[float, float]) -> tuple[float, float]:
        """The height that becomes 0.0, and how many metres more become 1.0."""
        low_m, high_m = self.percentiles(percents)
        return low_m, max(high_m - low_m, SMALLEST_RANGE_M)


@dataclass(frozen=True, slots=True)
class Ground:
    """Height of the ground, metres: at each pixel of a row, and down the rows at the centres of coarse cells."""

    lines: Array  # [rows of cells, pixels of a row]
    cell_px: int  # side of a cell

    def under(self, rows: slice) -> Array:
        """The ground under some rows of pixels, `[h, W]`."""
        places = ((np.arange(rows.start, rows.stop) + 0.5) / self.cell_px - 0.5).clip(0, len(self.lines) - 1)
        return _between(self.lines, places, axis=0)


def histogram(dsm_HW: Array) -> Histogram:
    """Count the measured heights."""
    there_HW = np.isfinite(dsm_HW)
    bins = (dsm_HW.ravel() if there_HW.all() else dsm_HW[there_HW]) / np.float32(BIN_M)
    np.floor(bins, out=bins)
    first = int(bins.min()) if bins.size else 0
    bins -= np.float32(first)
    return Histogram(first, np.bincount(bins.astype(np.intp)))


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """The sum of histograms; without any, an empty one."""
    parts = [part for part in histograms if part.counts.size]
    if not parts:
        return Histogram(0, np.zeros(0, np.int64))
    first = min(part.first_bin for part in parts)
    counts = np.zeros(max(part.first_bin + part.counts.size for part in parts) - first, np.int64)
    for part in parts:
        counts[part.first_bin - first :][: part.counts.size] += part.counts
    return Histogram(first, counts)


def scaled(dsm_HW: Array, heights: Heights, gsd_m: float) -> Array:
    """Scale one tile.

    Args:
        dsm_HW: heights, metres; NaN = not measured.
        heights: how, as a manifest or a model file holds it.
        gsd_m: ground size of a pixel, metres.

    Returns:
        float32 within `heights.clip`, NaN where nothing was measured.
    """
    ground = None
    if heights.ground_radius_m is not None:
        cell_px = cell_size(gsd_m)
        ground = ground_of(cells_of(dsm_HW, cell_px), dsm_HW.shape[1], gsd_m, heights.ground_radius_m)
    tile = histogram(dsm_HW) if heights.offset_m is None else None
    result_HW = dsm_HW.copy()
    for first in range(0, len(result_HW), BAND_ROWS):
        scale_rows(result_HW[first : first + BAND_ROWS], first, heights, ground, tile)
    return result_HW


def scale_rows(dsm_hW: Array, first_row: int, heights: Heights, ground: Ground | None, tile: Histogram | None) -> None:
    """Scale rows of a tile, in place.

    Args:
        dsm_hW: the rows, metres; NaN = not measured.
        first_row: of them in the tile.
        heights: how.
        ground: of the tile, where `heights` asks for it; None otherwise, or if the tile has no height at all.
        tile: all heights of the tile, where each tile has its own offset and scale; None otherwise.
    """
    offset_m, scale_m = heights.offset_m, heights.scale_m
    if offset_m is None or scale_m is None:
        assert tile is not None and heights.percentiles is not None
        offset_m, scale_m = tile.offset_and_scale(heights.percentiles)
    if ground is not None:
        dsm_hW -= ground.under(slice(first_row, first_row + len(dsm_hW)))
    dsm_hW -= np.float32(offset_m)
    dsm_hW /= np.float32(scale_m)
    np.clip(dsm_hW, *heights.clip, out=dsm_hW, dtype=np.float32)


def cell_size(gsd_m: float) -> int:
    """Side of the cells in which ground is looked for, pixels."""
    return max(1, round(CELL_M / gsd_m))


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
    filled = _ranked(squares[holey]) if holey is not None else None
    rank = int(LOW_QUANTILE * (squares.shape[-1] - 1))
    squares.partition(rank, axis=-1)
    cells = squares[..., rank].copy()
    if holey is not None:
        cells[holey] = filled
    return cells


def _ranked(squares: Array) -> Array:
    """The low quantile of squares that hold NaN."""
    ranked = np.sort(squares, axis=-1)  # NaN goes last
    valid = np.isfinite(ranked).sum(-1)
    rank = (LOW_QUANTILE * (valid - 1).clip(min=0)).astype(np.intp)
    return np.take_along_axis(ranked, rank[:, None], axis=-1)[:, 0]


def ground_of(cells: Array, width_px: int, gsd_m: float, radius_m: float) -> Ground | None:
    """The ground of a tile; None if it has no height at all.

    Ground is what remains of coarse cells when everything narrower than `2 * radius_m` is removed (a grey opening). An
    object that the tile's edge or a hole cuts is assumed to have ground on its other side.

    Args:
        cells: heights of the cells of a complete tile, `[rows, columns]`, from `cells_of`; metres, NaN = not measured.
        width_px: of the tile.
        gsd_m: ground size of a pixel, metres.
        radius_m: how far to look for ground, metres.
    """
    if np.isnan(cells).all():
        return None
    cell_px = cell_size(gsd_m)
    radius = max(1, round(radius_m / (gsd_m * cell_px)))
    smooth = ndimage.median_filter(_filled(cells), size=3, mode="nearest")  # removes single outliers
    places = ((np.arange(width_px) + 0.5) / cell_px - 0.5).clip(0, cells.shape[1] - 1)
    return Ground(_between(_opened(smooth, np.isnan(cells), radius), places, axis=1), cell_px)


def _opened(cells: Array, holes: npt.NDArray[np.bool_], radius: int) -> Array:
    """Height of the ground in each cell, looking `radius` cells far; `holes` are cells without a measurement.

    Holes count as low ground first, so that no roof extends into them. Then they get the height of the nearest cell
    that turned out to be ground, so that they do not lower the ground of a slope around them.
    """
    reach = 4 * radius + 1
    slope = _plane(ndimage.minimum_filter(cells, size=reach, mode="nearest"))
    flat = cells - slope
    low = ndimage.minimum_filter(np.where(holes, np.inf, flat), size=reach, mode="nearest")
    low = np.where(np.isfinite(low), low, flat).astype(np.float32, copy=False)

    def opened(filled: Array) -> Array:
        framed = np.pad(low, radius, mode="edge")
        framed[radius:-radius, radius:-radius] = filled
        return np.asarray(ndimage.grey_opening(framed, size=(2 * radius + 1,) * 2, mode="nearest"))

    ground = opened(np.where(holes, low, flat))
    near = ~holes & (flat - ground[radius:-radius, radius:-radius] < NEAR_GROUND_M)
    if holes.any() and near.any():
        ground = opened(np.where(holes, _filled(np.where(near, flat, np.nan)), flat))
    smooth = ndimage.gaussian_filter(ground, sigma=radius / 4, mode="nearest")[radius:-radius, radius:-radius] + slope
    return smooth.astype(np.float32, copy=False)


def _plane(surface: Array) -> Array:
    """The slope of a surface as a plane through 0, by least squares; on a full grid both directions are independent."""
    slopes = []
    for axis in (0, 1):
        place = np.arange(surface.shape[axis]) - (surface.shape[axis] - 1) / 2
        slopes.append(place * (place @ surface.mean(1 - axis, dtype=np.float64)) / max(place @ place, 1.0))
    return (slopes[0][:, None] + slopes[1]).astype(np.float32)


def _filled(cells: Array) -> Array:
    """Cells without a measurement get the nearest cell's height."""
    rows, columns = ndimage.distance_transform_edt(np.isnan(cells), return_distances=False, return_indices=True)
    return cells[rows, columns]


def _between(values: Array, places: npt.NDArray[np.float64], axis: int) -> Array:
    """Values at places between the indices of an axis, linearly interpolated."""
    before = places.astype(np.intp)
    after = np.minimum(before + 1, values.shape[axis] - 1)
    result, step = (values.take(index, axis=axis) for index in (before, after))  # unlike [:, index], in C order
    step -= result
    step *= np.expand_dims((places - before).astype(np.float32), 1 - axis)
    result += step
    return result
