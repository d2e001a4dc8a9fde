"""Sums over the pixels of one layer, in bands of rows, so that no layer is ever completely in memory.

In: rows as the reader gives them, top to bottom. Out: the records of `facts.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from components.check.facts import DsmFacts, ImageFacts, LabelFacts, Pixels
from components.common.data.datasets import IGNORE
from components.common.data.height_scaling import BIN_M, Histogram, histogram, merged
from components.common.data.legend import Labels
from components.common.rasterfiles.rasters import Mask
from components.common.readers.heights import HeightLayer
from components.common.readers.images import ImageLayer
from components.common.readers.labels import LabelLayer, LabelRows
from components.common.readers.layers import Heights

Block = npt.NDArray[Any]
Limits = Sequence[tuple[float, float] | None]
"""Lowest and highest value per band; None: every pixel is missing."""

ROBUST_PERCENT = (0.1, 99.9)
"""Heights between these are the range of a tile; heights further outside than the range is wide are outliers."""

LEAST_RANGE_M = 1.0
"""A narrower range counts as this wide when outliers are looked for."""

BETWEEN = (64, 191)
"""A lossy format leaves few channels of a label picture between these; in an image most are."""


class PixelSums:
    """Checksum, missing pixels, lowest and highest value."""

    def __init__(self) -> None:
        """Start with nothing; type and number of bands are part of the checksum."""
        self._bands: list[Any] = []
        self._size = self._missing = 0
        self._lowest: float | None = None
        self._highest: float | None = None

    def add(self, pixels_BhW: Block, missing_hW: Mask | None) -> Limits:
        """Take in rows; returns the lowest and highest value of each band that are not missing."""
        pixels_BhW = np.ascontiguousarray(pixels_BhW)
        if not self._bands:
            start = f"{pixels_BhW.dtype}{pixels_BhW.shape[-1]}".encode()
            self._bands = [hashlib.sha256(start) for _ in pixels_BhW]
        for band_hW, checksum in zip(pixels_BhW, self._bands, strict=True):
            checksum.update(band_hW.data)
        self._size += pixels_BhW[0].size
        if missing_hW is not None and not missing_hW.any():
            missing_hW = None
        if missing_hW is not None:
            self._missing += int(np.count_nonzero(missing_hW))
        limits = [_limits(band_hW if missing_hW is None else band_hW[~missing_hW]) for band_hW in pixels_BhW]
        for low, high in filter(None, limits):
            self._lowest = low if self._lowest is None else min(low, self._lowest)
            self._highest = high if self._highest is None else max(high, self._highest)
        return limits

    def facts(self) -> Pixels:
        """The sums so far."""
        checksum = hashlib.sha256(b"".join(band.digest() for band in self._bands)).hexdigest()
        return Pixels(checksum, self._missing / max(1, self._size), self._lowest, self._highest)


class ImageSums:
    """Black, out of range, coloured like a label; mean of each band per class."""

    def __init__(self, image: ImageLayer, classes: int) -> None:
        """Start with nothing."""
        self._image, self._range = image, image.info.range
        self._size = self._black = self._outside = 0
        self._sampled = self._corner = 0
        self._lowest: float | None = None
        self._highest: float | None = None
        bands = len(image.info.bands)
        self._sums, self._counts = np.zeros((classes, bands)), np.zeros(classes, np.int64)

    def add(self, pixels_BhW: Block, missing_hW: Mask | None, limits: Limits) -> None:
        """Take in rows and what `PixelSums.add` returned for them."""
        there_hW = None if missing_hW is None else ~missing_hW
        self._size += pixels_BhW[0].size if there_hW is None else int(np.count_nonzero(there_hW))
        if all(limit is not None and limit[0] <= 0 for limit in limits):
            self._black += _count([band_hW == 0 for band_hW in pixels_BhW], there_hW)
        inside = True
        for band, limit in enumerate(limits):
            if limit is not None:
                low, high = sorted(self._image.values(np.array(limit), band).tolist())
                self._lowest = low if self._lowest is None else min(low, self._lowest)
                self._highest = high if self._highest is None else max(high, self._highest)
                inside &= self._range[0] <= low and high <= self._range[1]
        if not inside:
            self._outside += self._beyond(pixels_BhW, there_hW)

    def add_sample(self, pixels_BhW: Block, missing_hW: Mask | None) -> None:
        """Take in a part of the pixels that were added."""
        there_hW = None if missing_hW is None else ~missing_hW
        full = np.iinfo(pixels_BhW.dtype).max if pixels_BhW.dtype.kind in "ui" else self._range[1]
        self._sampled += pixels_BhW[0].size if there_hW is None else int(np.count_nonzero(there_hW))
        self._corner += _count([(band_hW == 0) | (band_hW == full) for band_hW in pixels_BhW], there_hW)

    def add_classes(self, pixels_BhW: Block, y_hW: Labels) -> None:
        """Take in a sample with its classes."""
        y_n, classes = y_hW.ravel(), len(self._counts)
        self._counts += np.bincount(y_n, minlength=IGNORE + 1)[:classes]
        for band, pixels_hW in enumerate(pixels_BhW):
            values_n = self._image.values(pixels_hW.ravel(), band)
            self._sums[:, band] += np.bincount(y_n, values_n, IGNORE + 1)[:classes]

    def facts(self) -> ImageFacts:
        """The sums so far."""
        pairs = zip(self._sums, self._counts, strict=True)
        means = tuple(tuple(np.round(sums / count, 4).tolist()) if count else None for sums, count in pairs)
        black, outside = (px / max(1, self._size) for px in (self._black, self._outside))
        corner = self._corner / max(1, self._sampled)
        return ImageFacts(black, self._lowest, self._highest, outside, corner, means)

    def _beyond(self, pixels_BhW: Block, there_hW: Mask | None) -> int:
        low, high = self._range
        values = (self._image.values(band_hW, band) for band, band_hW in enumerate(pixels_BhW))
        beyond_hW = np.logical_or.reduce([(values_hW < low) | (values_hW > high) for values_hW in values])
        return _count([beyond_hW], there_hW)


class HeightSums:
    """A histogram of the heights; median height per class, of a sample."""

    def __init__(self, dsm: HeightLayer, classes: int) -> None:
        """Start with nothing."""
        self._top_m = None
        if dsm.dtype.kind in "ui":  # computed as the reader does it
            scaled = np.float32(np.iinfo(dsm.dtype).max) * np.float32(dsm.scaling.factor)
            self._top_m = scaled + np.float32(dsm.scaling.shift_m)
        self._histogram: Histogram | None = None
        self._size = self._saturated = 0
        self._classes = classes
        self._sample: list[tuple[Heights, Labels]] = []

    def add(self, metres_hW: Heights) -> None:
        """Take in rows, NaN = not measured."""
        if self._top_m is not None:
            self._saturated += int(np.count_nonzero(metres_hW == self._top_m))
        counted = histogram(metres_hW)
        self._histogram = counted if self._histogram is None else merged((self._histogram, counted))
        self._size += metres_hW.size

    def add_classes(self, metres_hW: Heights, y_hW: Labels) -> None:
        """Take in a sample of the heights with their classes."""
        there_hW = np.isfinite(metres_hW)
        self._sample.append((metres_hW[there_hW], y_hW[there_hW]))

    def facts(self) -> DsmFacts:
        """The sums so far."""
        counted = self._histogram
        low = high = quarter = median = None
        if counted is not None and counted.counts.sum():
            low, high = (round(height, 3) for height in counted.percentiles(ROBUST_PERCENT))
            quarter, median = (round(height, 3) for height in counted.percentiles((25.0, 50.0)))
        return DsmFacts(
            low_m=low,
            high_m=high,
            quarter_m=quarter,
            median_m=median,
            outlier_px=0 if low is None or high is None else self._outliers(low, high),
            top_m=None if self._top_m is None else float(self._top_m),
            saturated_share=self._saturated / max(1, self._size),
            class_medians_m=self._class_medians(),
        )

    def _class_medians(self) -> tuple[float | None, ...]:
        if not self._sample:
            return (None,) * self._classes
        metres_n, y_n = (np.concatenate(parts) for parts in zip(*self._sample, strict=True))
        groups = (metres_n[y_n == label] for label in range(self._classes))
        return tuple(round(float(np.median(group)), 3) if group.size else None for group in groups)

    def _outliers(self, low: float, high: float) -> int:
        counted = self._histogram
        if counted is None:
            return 0
        width = max(high - low, LEAST_RANGE_M)
        first, last = (round(height / BIN_M) - counted.first_bin for height in (low - width, high + width))
        return int(counted.counts[: max(0, first)].sum() + counted.counts[max(0, last) :].sum())


class LabelSums:
    """Classes, foreign colours, boundaries; of an eroded label, how it compares with the full one."""

    def __init__(self, label: LabelLayer, classes: int) -> None:
        """Start with nothing."""
        self._label, self._classes = label, classes
        self._counts = np.zeros(IGNORE + 1, np.int64)
        self._corners = bool(label.legend.colours) and all(
            channel in (0, 255) for colour in (*label.legend.colours, *label.legend.ignored) for channel in colour
        )
        self._foreign = self._compared = self._differing = self._boundary = 0

    def add(self, rows: LabelRows) -> None:
        """Take in rows."""
        y_hW = rows.y_hW
        self._counts += np.bincount(y_hW.ravel(), minlength=IGNORE + 1)
        if self._corners and rows.snapped_px:
            self._foreign += self._between(rows.pixels_BhW)
        left_hW, right_hW = y_hW[:, :-1], y_hW[:, 1:]
        next_hW = (left_hW != right_hW) & (left_hW != IGNORE) & (right_hW != IGNORE)
        self._boundary += int(np.count_nonzero(next_hW))

    def compare(self, y_hW: Labels, full_hW: Labels) -> None:
        """Take in rows of this label with the same rows of the full one."""
        both_hW = (y_hW != IGNORE) & (full_hW != IGNORE)
        self._compared += int(np.count_nonzero(both_hW))
        self._differing += int(np.count_nonzero(both_hW & (y_hW != full_hW)))

    def facts(self) -> LabelFacts:
        """The sums so far."""
        return LabelFacts(
            class_px=tuple(self._counts[: self._classes].tolist()),
            ignored_px=int(self._counts[IGNORE]),
            snapped_px=self._label.snapped_px,
            unknown_px=self._label.unknown_px,
            foreign_px=self._foreign,
            compared_px=self._compared,
            differing_px=self._differing,
            boundary_px=self._boundary,
        )

    @staticmethod
    def _between(picture_BhW: Block) -> int:
        """Pixels with a channel far from both its ends, where neither a colour nor its distortion lies."""
        low, high = BETWEEN
        return int(np.count_nonzero(((picture_BhW > low) & (picture_BhW < high)).any(0)))


def _limits(pixels: Block) -> tuple[float, float] | None:
    """Lowest and highest value that is a number; None: there is none."""
    if pixels.dtype.kind == "f" and pixels.size and np.isnan(pixels.min()):
        pixels = pixels[~np.isnan(pixels)]
    return (float(pixels.min()), float(pixels.max())) if pixels.size else None


def _count(masks: Sequence[Mask], there_hW: Mask | None) -> int:
    """Pixels that all masks have, of those that are not missing."""
    return int(np.count_nonzero(np.logical_and.reduce([*masks, *(() if there_hW is None else (there_hW,))])))
