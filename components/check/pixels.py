"""Sums over the pixels of one file, row block by row block, so that no file is ever whole in memory.

In: blocks of whole rows `[B, H, W]`, top to bottom, each with its missing pixels. Out: the records of `facts.py`.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from components.check.facts import DsmFacts, ImageFacts, LabelFacts, Pixels
from components.common.data.datasets import IGNORE, ImageInfo
from components.common.data.heights import BIN_M, Histogram, histogram, measured, merged
from components.common.data.labels import Legend, Unknown, decode

Block = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]

ROBUST_PERCENT = (0.1, 99.9)
"""Heights between these are the range of a tile; what lies further out than the range is wide is an outlier."""

LEAST_RANGE_M = 1.0
"""A narrower range counts as this wide when outliers are looked for."""

BETWEEN = (64, 191)
"""A lossy format leaves few channels of a label picture between these; in an image most are."""


class PixelSums:
    """Checksum, missing pixels, lowest and highest value."""

    def __init__(self, bands: int, dtype: str) -> None:
        """Start with nothing; type and number of bands are part of the checksum."""
        self._bands = [hashlib.sha256(dtype.encode()) for _ in range(bands)]
        self._size = self._missing = 0
        self._lowest: float | None = None
        self._highest: float | None = None

    def add(self, pixels_BHW: Block, missing_HW: Mask) -> None:
        """Take in a block."""
        for band_HW, checksum in zip(pixels_BHW, self._bands, strict=True):
            if not self._size:
                checksum.update(str(band_HW.shape[1]).encode())
            checksum.update(np.ascontiguousarray(band_HW).data)
        self._size += missing_HW.size
        missing_px = int(np.count_nonzero(missing_HW))
        self._missing += missing_px
        kept = pixels_BHW[:, ~missing_HW] if missing_px else pixels_BHW
        if kept.size:
            low, high = float(kept.min()), float(kept.max())
            self._lowest = low if self._lowest is None else min(low, self._lowest)
            self._highest = high if self._highest is None else max(high, self._highest)

    def facts(self) -> Pixels:
        """What has come together."""
        checksum = hashlib.sha256(b"".join(band.digest() for band in self._bands)).hexdigest()
        return Pixels(checksum, self._missing / max(1, self._size), self._lowest, self._highest)


class ImageSums:
    """Black, out of range, coloured like a label; mean of each band per class."""

    def __init__(self, info: ImageInfo, classes: int, dtype: str) -> None:
        """Start with nothing."""
        self._range = info.range if dtype != "uint8" else (0.0, 255.0)  # 8 bits are taken as they are
        self._bands = len(info.bands)
        self._full = np.iinfo(dtype).max if np.issubdtype(np.dtype(dtype), np.integer) else info.range[1]
        self._size = self._black = self._outside = self._corner = 0
        self._sums, self._counts = np.zeros((classes, self._bands)), np.zeros(classes, np.int64)

    def add(self, pixels_BHW: Block, missing_HW: Mask) -> None:
        """Take in a block."""
        low, high = self._range
        self._size += missing_HW.size
        zero_BHW = pixels_BHW == 0
        self._black += int(np.count_nonzero(zero_BHW.all(0) & ~missing_HW))
        self._corner += int(np.count_nonzero((zero_BHW | (pixels_BHW == self._full)).all(0)))
        if pixels_BHW.min() < low or pixels_BHW.max() > high:
            self._outside += int(np.count_nonzero(((pixels_BHW < low) | (pixels_BHW > high)).any(0)))

    def add_classes(self, pixels_BHW: Block, y_HW: Labels) -> None:
        """Take in pixels with their classes."""
        y_n, classes = y_HW.ravel(), len(self._counts)
        self._counts += np.bincount(y_n, minlength=IGNORE + 1)[:classes]
        for band in range(self._bands):
            self._sums[:, band] += np.bincount(y_n, pixels_BHW[band].ravel(), IGNORE + 1)[:classes]

    def facts(self) -> ImageFacts:
        """What has come together."""
        pairs = zip(self._sums, self._counts, strict=True)
        means = tuple(tuple(np.round(sums / count, 4).tolist()) if count else None for sums, count in pairs)
        black, outside, corner = (px / max(1, self._size) for px in (self._black, self._outside, self._corner))
        return ImageFacts(black, outside, corner, means)


class HeightSums:
    """A histogram of the heights; median height per class, of a sample."""

    def __init__(self, unit_m: float, classes: int, dtype: str) -> None:
        """Start with nothing."""
        self._unit_m = unit_m
        self._top = np.iinfo(dtype).max if np.issubdtype(np.dtype(dtype), np.integer) else None
        self._histogram: Histogram | None = None
        self._size = self._implausible = self._saturated = 0
        self._classes = classes
        self._sample: list[tuple[npt.NDArray[np.float32], Labels]] = []

    def add(self, heights_HW: Block, missing_HW: Mask) -> npt.NDArray[np.float32]:
        """Take in a block; returns its heights, metres, NaN = not measured."""
        if self._top is not None:
            self._saturated += int(np.count_nonzero(heights_HW == self._top))
        metres_HW = measured(heights_HW, missing_HW, self._unit_m)
        counted = histogram(metres_HW)
        self._histogram = counted if self._histogram is None else merged((self._histogram, counted))
        self._size += metres_HW.size
        self._implausible += int(np.count_nonzero(np.isnan(metres_HW) & ~missing_HW))
        return metres_HW

    def add_classes(self, metres_HW: npt.NDArray[np.float32], y_HW: Labels) -> None:
        """Take in heights with their classes."""
        there_HW = np.isfinite(metres_HW)
        self._sample.append((metres_HW[there_HW], y_HW[there_HW]))

    def facts(self) -> DsmFacts:
        """What has come together."""
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
            implausible_share=self._implausible / max(1, self._size),
            outlier_px=0 if low is None or high is None else self._outliers(low, high),
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
    """Classes, inexact colours, boundaries; of an eroded label, how it compares with the full one."""

    def __init__(self, classes: int, legend: Legend) -> None:
        """Start with nothing."""
        self._counts = np.zeros(IGNORE + 1, np.int64)
        self._classes, self._legend = classes, legend
        self._corners = all(channel in (0, 255) for colour in legend.colours for channel in colour)
        self._rows = self._snapped = self._unknown = self._foreign = 0
        self._compared = self._differing = self._boundary = 0
        self._example: str | None = None

    def add(self, picture_BHW: Block) -> Labels:
        """Take in a block; returns its classes."""
        block = decode(picture_BHW, self._legend)
        y_HW = block.y_HW
        self._counts += np.bincount(y_HW.ravel(), minlength=IGNORE + 1)
        self._snapped += block.snapped_px
        self._unknown += block.unknown_px
        between_px = self._between(picture_BHW) if block.snapped_px and self._corners else 0
        self._foreign += max(block.unknown_px, between_px)
        if self._example is None and block.unknown is not None:
            self._example = _in_words(block.unknown, self._rows)
        left_HW, right_HW = y_HW[:, :-1], y_HW[:, 1:]
        next_HW = (left_HW != right_HW) & (left_HW != IGNORE) & (right_HW != IGNORE)
        self._boundary += int(np.count_nonzero(next_HW))
        self._rows += len(y_HW)
        return y_HW

    def compare(self, y_HW: Labels, full_HW: Labels) -> None:
        """Take in a block of this label with the same block of the full one."""
        both_HW = (y_HW != IGNORE) & (full_HW != IGNORE)
        self._compared += int(np.count_nonzero(both_HW))
        self._differing += int(np.count_nonzero(both_HW & (y_HW != full_HW)))

    def facts(self) -> LabelFacts:
        """What has come together."""
        return LabelFacts(
            class_px=tuple(self._counts[: self._classes].tolist()),
            ignored_px=int(self._counts[IGNORE]),
            snapped_px=self._snapped,
            unknown_px=self._unknown,
            unknown=self._example,
            foreign_px=self._foreign,
            compared_px=self._compared,
            differing_px=self._differing,
            boundary_px=self._boundary,
        )

    @staticmethod
    def _between(picture_BHW: Block) -> int:
        """Pixels with a channel far from both its ends, where neither a colour nor its distortion lies."""
        low, high = BETWEEN
        return int(np.count_nonzero(((picture_BHW > low) & (picture_BHW < high)).any(0)))


def _in_words(unknown: Unknown, above: int) -> str:
    shown = ", ".join(str(value) for value in unknown.pixel)
    what = f"RGB {shown}" if len(unknown.pixel) == 3 else f"the value {shown}"
    return f"{what} at row {above + unknown.row}, column {unknown.column}"
