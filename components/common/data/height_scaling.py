"""DSM -> scaled heights: above the local ground, or over a range of heights; outliers limited, holes left as NaN.

In: heights `[H, W]`, metres, NaN = not measured. Out: `(metres - offset_m) / scale_m` limited to `clip`.
The raw minimum and maximum of a tile are never used: one bad pixel would set the scale. Everything works on parts of a
raster, so that it need not fit into memory; training data and prediction use the same functions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.common.data.local_ground import Ground, cell_size, cells_of, ground_of, radius_cells
from components.common.data.store import Heights

Array = npt.NDArray[np.float32]

PLAUSIBLE_M = (-500.0, 9000.0)
"""Lowest and highest land, roughly. A value beyond means "not measured", whatever the file says: -9999, 3.4e38."""

BIN_M = 0.01
"""Resolution of the histogram of heights, metres."""

SMALLEST_RANGE_M = 0.1
"""Least height that becomes 1.0, so that noise on flat land is not blown up."""

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
    height, width = dsm_HW.shape
    ground = None
    if heights.ground_radius_m is not None:
        ground = whole_ground(cells_of(dsm_HW, cell_size(gsd_m)), gsd_m, heights.ground_radius_m)
    tile = histogram(dsm_HW) if heights.offset_m is None else None
    result_HW = dsm_HW.copy()
    for first in range(0, height, BAND_ROWS):
        rows = slice(first, min(first + BAND_ROWS, height))
        scale_part(result_HW[rows], rows, slice(0, width), heights, ground, tile)
    return result_HW


def whole_ground(cells: Array, gsd_m: float, radius_m: float) -> Ground:
    """The ground of a complete raster.

    Args:
        cells: heights of its cells, `[rows, columns]`, from `cells_of`; metres, NaN = not measured.
        gsd_m: ground size of a pixel, metres.
        radius_m: how far to look for ground, metres.
    """
    ground = ground_of(cells, radius_cells(gsd_m, radius_m))
    return Ground(ground, (0, 0), (cells.shape[0], cells.shape[1]), cell_size(gsd_m))


def scale_part(
    dsm_hw: Array, rows: slice, columns: slice, heights: Heights, ground: Ground | None, tile: Histogram | None
) -> None:
    """Scale a part of a raster, in place.

    Args:
        dsm_hw: heights of the part, `[h, w]`, metres; NaN = not measured.
        rows: of the part in the raster.
        columns: the same.
        heights: how.
        ground: under the part, where `heights` asks for it; None otherwise.
        tile: all heights of the raster, where each raster has its own offset and scale; None otherwise.
    """
    offset_m, scale_m = heights.offset_m, heights.scale_m
    if offset_m is None or scale_m is None:
        assert tile is not None and heights.percentiles is not None
        offset_m, scale_m = tile.offset_and_scale(heights.percentiles)
    if ground is not None:
        dsm_hw -= ground.under(rows, columns)
    dsm_hw -= np.float32(offset_m)
    dsm_hw /= np.float32(scale_m)
    np.clip(dsm_hw, *heights.clip, out=dsm_hw, dtype=np.float32)
