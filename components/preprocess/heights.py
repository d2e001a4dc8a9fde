"""DSM -> scaled heights: above the local ground, or over a range of heights; outliers tamed, holes left as NaN.

In: absolute heights `[H, W]`, metres, NaN = not measured. Out: `(metres - offset_m) / scale_m` limited to `clip`.
The raw minimum and maximum of a tile are never used: one bad pixel would set the scale.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from components.common.store import Heights

Array = npt.NDArray[np.float32]

PLAUSIBLE_M = (-500.0, 9000.0)
"""Lowest and highest land, roughly. A value beyond means "not measured", whatever the file says: -9999, 3.4e38."""

BIN_M = 0.01
"""Resolution of the histogram of heights, metres."""

SMALLEST_RANGE_M = 0.1
"""Least height that becomes 1.0, so that noise on flat land is not blown up."""

CELL_M = 0.5
"""Side of the cells in which ground is looked for, metres."""

LOW_QUANTILE = 0.2
"""Height of a cell: above a few pits of the matching, below what sticks out of the ground in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeightsConfig:
    """Part `heights` of section `preprocess`."""

    method: Literal["above-ground", "training-range", "per-tile"]  # what the heights are relative to
    ground_radius_m: float  # above-ground: how far to look for ground, metres, > 0
    scale_m: float  # above-ground: metres that become 1.0, > 0
    percentiles: tuple[float, float]  # the others: heights that become 0.0 and 1.0, percent, 0..100, ascending
    clip: tuple[float, float]  # limits of a scaled height, ascending

    def __post_init__(self) -> None:
        """Check the ranges."""
        for key in ("ground_radius_m", "scale_m"):
            if not 0 < getattr(self, key) < inf:
                raise ValueError(f"{key} is {getattr(self, key)}; expected a number of metres above 0")
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError(f"percentiles is {list(self.percentiles)}; expected two ascending numbers in 0..100")
        if not -inf < self.clip[0] < self.clip[1] < inf:
            raise ValueError(f"clip is {list(self.clip)}; expected two ascending numbers")


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


def measured(dsm_HW: npt.NDArray[np.floating], missing_HW: npt.NDArray[np.bool_] | None) -> Array:
    """Heights as float32, with NaN wherever a value is marked as missing or cannot be a height."""
    heights_HW = dsm_HW.astype(np.float32)
    odd_HW = ~((heights_HW > PLAUSIBLE_M[0]) & (heights_HW < PLAUSIBLE_M[1]))
    heights_HW[odd_HW if missing_HW is None else odd_HW | missing_HW] = np.nan
    return heights_HW


def histogram(dsm_HW: Array) -> Histogram:
    """Count the measured heights."""
    bins = np.floor(dsm_HW[np.isfinite(dsm_HW)] / np.float32(BIN_M)).astype(np.int32)
    first = int(bins.min()) if bins.size else 0
    return Histogram(first, np.bincount(bins - first))


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """The sum of histograms."""
    parts = list(histograms)
    first = min(part.first_bin for part in parts)
    counts = np.zeros(max(part.first_bin + part.counts.size for part in parts) - first, np.int64)
    for part in parts:
        counts[part.first_bin - first :][: part.counts.size] += part.counts
    return Histogram(first, counts)


def as_recorded(config: HeightsConfig, training: Histogram | None) -> Heights:
    """What the manifest says of the scaling.

    Args:
        config: the settings.
        training: heights of the training tiles; needed by the method `training-range` alone.
    """
    if config.method == "above-ground":
        return Heights(config.method, 0.0, config.scale_m, config.ground_radius_m, config.clip)
    if training is None:
        return Heights(config.method, None, None, None, config.clip)
    return Heights(config.method, *_offset_and_scale(training, config.percentiles), None, config.clip)


def scaled(dsm_HW: Array, heights: Heights, percentiles: tuple[float, float], gsd_m: float) -> Array:
    """Scale one tile.

    Args:
        dsm_HW: absolute heights, metres; NaN = not measured.
        heights: how.
        percentiles: for a tile that has its own offset and scale.
        gsd_m: ground size of a pixel, metres.

    Returns:
        float32 within `heights.clip`, NaN where nothing was measured.
    """
    offset_m, scale_m = heights.offset_m, heights.scale_m
    if offset_m is None or scale_m is None:
        offset_m, scale_m = _offset_and_scale(histogram(dsm_HW), percentiles)
    if heights.ground_radius_m is not None:
        dsm_HW = above_ground(dsm_HW, gsd_m=gsd_m, radius_m=heights.ground_radius_m)
    low, high = heights.clip
    return np.clip((dsm_HW - np.float32(offset_m)) / np.float32(scale_m), low, high, dtype=np.float32)


def above_ground(dsm_HW: Array, *, gsd_m: float, radius_m: float) -> Array:
    """Height of each pixel above the local ground.

    Ground is what remains of coarse cells when everything narrower than `2 * radius_m` is taken away (a grey opening).
    An object that the tile's edge cuts is assumed to have ground on its other side.

    Args:
        dsm_HW: absolute heights, metres; NaN = not measured.
        gsd_m: ground size of a pixel, metres.
        radius_m: how far to look for ground, metres.

    Returns:
        float32 metres; a little below 0 where the ground dips, NaN where nothing was measured.
    """
    cell_px = max(1, round(CELL_M / gsd_m))
    cells = _cells(dsm_HW, cell_px)
    if np.isnan(cells).all():
        return dsm_HW
    radius = max(1, round(radius_m / (gsd_m * cell_px)))
    ground = _ground(ndimage.median_filter(_filled(cells), size=3, mode="nearest"), radius)  # median: no lone outliers
    ground_HW = ndimage.zoom(ground, cell_px, order=1, mode="nearest", grid_mode=True)
    return dsm_HW - ground_HW[: dsm_HW.shape[0], : dsm_HW.shape[1]]


def _cells(dsm_HW: Array, cell_px: int) -> Array:
    """A low quantile of each square of pixels; NaN where a square holds no measurement."""
    height, width = (-(-side // cell_px) for side in dsm_HW.shape)
    lacking = ((0, height * cell_px - dsm_HW.shape[0]), (0, width * cell_px - dsm_HW.shape[1]))
    squares = np.pad(dsm_HW, lacking, constant_values=np.nan).reshape(height, cell_px, width, cell_px)
    ranked = np.sort(squares.swapaxes(1, 2).reshape(height, width, -1), axis=-1)  # NaN goes last
    valid = np.isfinite(ranked).sum(-1)
    rank = (LOW_QUANTILE * (valid - 1).clip(min=0)).astype(np.intp)
    return np.take_along_axis(ranked, rank[..., None], axis=-1)[..., 0]


def _ground(cells: Array, radius: int) -> Array:
    """Height of the ground in each cell, looking `radius` cells far."""
    lowest = ndimage.minimum_filter(cells, size=4 * radius + 1, mode="nearest")
    slope = _plane(lowest)
    framed = np.pad(ndimage.minimum_filter(cells - slope, size=4 * radius + 1, mode="nearest"), radius, mode="edge")
    framed[radius:-radius, radius:-radius] = cells - slope
    opened = ndimage.grey_opening(framed, size=(2 * radius + 1,) * 2, mode="nearest")
    return ndimage.gaussian_filter(opened, sigma=radius / 4, mode="nearest")[radius:-radius, radius:-radius] + slope


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


def _offset_and_scale(heights: Histogram, percentiles: tuple[float, float]) -> tuple[float, float]:
    low_m, high_m = heights.percentiles(percentiles)
    return low_m, max(high_m - low_m, SMALLEST_RANGE_M)
