"""Where windows are drawn from rasters: squares that do not overlap, in random order, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Place(NamedTuple):
    """A window of a raster, by its upper left corner."""

    raster: int  # index of the raster
    row: int  # pixels
    column: int  # pixels

    def pixels(self, side_px: int) -> tuple[slice, slice]:
        """Rows and columns of the window; they may reach beyond a raster that is smaller than a window."""
        return slice(self.row, self.row + side_px), slice(self.column, self.column + side_px)


def shuffled_places(shapes: Sequence[tuple[int, int]], side_px: int, seed: int) -> Iterator[Place]:
    """All windows of some rasters; strips at the bottom and on the right that are narrower than a window are left out.

    Args:
        shapes: rows and columns of each raster.
        side_px: side of a window, pixels.
        seed: of the order.
    """
    grids = [(max(1, height // side_px), max(1, width // side_px)) for height, width in shapes]
    ends = np.cumsum([down * right for down, right in grids])
    for number in np.random.default_rng(seed).permutation(ends[-1]).tolist():
        raster = int(np.searchsorted(ends, number, side="right"))
        down, right = grids[raster]
        row, column = divmod(number - int(ends[raster]) + down * right, right)
        yield Place(raster, row * side_px, column * side_px)
