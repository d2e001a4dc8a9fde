"""Where the windows of a raster lie: one lattice per raster, anchored at its first pixel.

Window (i, j) covers rows `i * stride` to `i * stride + window` and columns `j * stride` to `j * stride + window`. The
last windows reach beyond the raster at the bottom and on the right. The lattice never depends on the part of the raster
that is asked for, and neither does a window's slot in a batch. So the score of a pixel is the same in every part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Window(NamedTuple):
    """A window, by its place in the lattice."""

    i: int  # row of the lattice
    j: int  # column of the lattice


@dataclass(frozen=True, slots=True)
class Lattice:
    """Windows of a raster, and how they are weighted."""

    height_px: int  # of the raster
    width_px: int  # of the raster
    window_px: int  # side of a window
    stride_px: int  # step between windows, 1..window_px
    batch_size: int  # windows per forward pass

    def __post_init__(self) -> None:
        if not 1 <= self.stride_px <= self.window_px:
            raise ValueError(f"stride_px is {self.stride_px}; expected 1 to window_px, which is {self.window_px}")

    @classmethod
    def over(cls, shape: tuple[int, int], window_px: int, overlap: float, batch_size: int) -> Lattice:
        """Windows of a raster of this many rows and columns; `overlap` is the share of a side that the next covers."""
        return cls(*shape, window_px, max(1, round(window_px * (1 - overlap))), batch_size)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of windows."""
        return self._count(self.height_px), self._count(self.width_px)

    @property
    def overlaps(self) -> bool:
        """Whether windows overlap."""
        return self.stride_px < self.window_px

    def window_rows(self, rows: slice) -> range:
        """Rows of the lattice whose windows touch these rows of the raster."""
        return self._touching(rows, self._count(self.height_px))

    def window_columns(self, columns: slice) -> range:
        """Columns of the lattice whose windows touch these columns of the raster."""
        return self._touching(columns, self._count(self.width_px))

    def pixels(self, index: int) -> slice:
        """Rows or columns of the raster that a row or column of the lattice covers; may end beyond the raster."""
        start = index * self.stride_px
        return slice(start, start + self.window_px)

    def slot(self, window: Window) -> int:
        """Position of a window in its batch."""
        return (window.i * self.shape[1] + window.j) % self.batch_size

    def profile(self) -> npt.NDArray[np.float64]:
        """Weight of the pixels along one side of a window, `[window_px]`: smooth, largest in the middle, never 0."""
        return np.sin(np.pi * (np.arange(self.window_px) + 0.5) / self.window_px) ** 2

    def row_weights(self, rows: slice) -> npt.NDArray[np.float64]:
        """Sum of the weights of all windows over each row of the raster, `[rows]`."""
        return self._sums(rows, self.window_rows(rows))

    def column_weights(self, columns: slice) -> npt.NDArray[np.float64]:
        """Sum of the weights of all windows over each column of the raster, `[columns]`."""
        return self._sums(columns, self.window_columns(columns))

    def _count(self, size_px: int) -> int:
        return 1 + max(0, -(-(size_px - self.window_px) // self.stride_px))

    def _touching(self, pixels: slice, count: int) -> range:
        first = (pixels.start - self.window_px) // self.stride_px + 1
        last = (pixels.stop - 1) // self.stride_px
        return range(max(0, first), min(count, last + 1))

    def _sums(self, pixels: slice, indices: range) -> npt.NDArray[np.float64]:
        """Sums in the order of the windows, so that they depend on a pixel's position only."""
        profile = self.profile()
        sums = np.zeros(pixels.stop - pixels.start)
        for index in indices:
            part, of_window = overlap(pixels, self.pixels(index))
            sums[part] += profile[of_window]
        return sums


def intersection(one: slice, other: slice) -> slice:
    """The pixels that two ranges share; empty if they share none."""
    start = max(one.start, other.start)
    return slice(start, max(start, min(one.stop, other.stop)))


def overlap(one: slice, other: slice) -> tuple[slice, slice]:
    """The pixels that two ranges share, counted from the start of the one and of the other."""
    shared = intersection(one, other)
    return within(shared, one), within(shared, other)


def within(part: slice, range_: slice) -> slice:
    """Part of a range, counted from the start of the range."""
    return slice(part.start - range_.start, part.stop - range_.start)


def strips(lattice: Lattice, columns: slice, block_px: int) -> list[slice]:
    """Cut columns of the raster into strips of at most `block_px`, or of one stride if that is wider.

    If possible, a strip is touched by as many columns of windows as fill complete batches. Only the last strip has the
    rest. A pixel's score does not depend on the strips.
    """
    found, start = [], columns.start
    while start < columns.stop:
        stop = _end_of_strip(lattice, start, block_px)
        found.append(slice(start, min(stop, columns.stop)))
        start = stop
    return found


def _end_of_strip(lattice: Lattice, start: int, block_px: int) -> int:
    """End of a strip, a multiple of the stride: it touches the windows from `first` to those that begin before it."""
    first, stride = lattice.window_columns(slice(start, start + 1)).start, lattice.stride_px
    most = (start + block_px) // stride - first  # columns of windows in a strip of at most block_px
    windows = most // lattice.batch_size * lattice.batch_size or most
    return max((first + windows) * stride, (start // stride + 1) * stride)
