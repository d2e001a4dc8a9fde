"""Rectangles of a raster: the region that a map covers, and the parts into which several commands split it.

A part is a strip of the region across its longer side. Parts have no overlap and no gap; every pixel has the same value
in a part as in the complete map.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from rasterio import Affine

from components.common.errors import DataError, ParamsError
from components.common.rasterfiles.grids import Grid

Limits = tuple[int, int, int, int]
"""First row, end of the rows, first column, end of the columns."""

NEAR_PX = 1e-6
"""Bounds that are this close to an edge of a pixel are on it: coordinates are rounded."""


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of a raster, in pixels of the raster."""

    rows: slice
    columns: slice

    @classmethod
    def of(cls, limits: Limits) -> Region:
        """The region with these limits."""
        return cls(slice(limits[0], limits[1]), slice(limits[2], limits[3]))

    @property
    def limits(self) -> Limits:
        """The limits as numbers, for JSON and as a key."""
        return self.rows.start, self.rows.stop, self.columns.start, self.columns.stop

    @property
    def height_px(self) -> int:
        """Number of rows."""
        return int(self.rows.stop - self.rows.start)

    @property
    def width_px(self) -> int:
        """Number of columns."""
        return int(self.columns.stop - self.columns.start)

    def grid(self, raster: Grid) -> Grid:
        """The grid of this region of a raster."""
        transform = raster.transform
        if transform is not None:
            transform = transform @ Affine.translation(self.columns.start, self.rows.start)
        return Grid(self.height_px, self.width_px, transform, raster.crs)


@dataclass(frozen=True, slots=True)
class Part:
    """One of several parts of a region."""

    number: int  # from 1
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def region(self, complete: Region) -> Region:
        """The rectangle of this part."""
        rows, columns = complete.rows, complete.columns
        if complete.height_px >= complete.width_px:
            return Region(self._share(rows), columns)
        return Region(rows, self._share(columns))

    def _share(self, side: slice) -> slice:
        size = side.stop - side.start
        return slice(*(side.start + size * i // self.count for i in (self.number - 1, self.number)))


def region_of(bounds: tuple[float, float, float, float] | None, grid: Grid) -> Region:
    """The pixels that bounds touch.

    Args:
        bounds: left, bottom, right, top in the CRS of the raster; None: the complete raster.
        grid: of the raster.

    Raises:
        DataError: the raster has no position, or lies elsewhere.
        ParamsError: the bounds have no area.
    """
    if bounds is None:
        return Region(slice(0, grid.height_px), slice(0, grid.width_px))
    left, bottom, right, top = bounds
    text = " ".join(f"{number:.10g}" for number in bounds)
    if not (np.isfinite(bounds).all() and left < right and bottom < top):
        raise ParamsError(f"--bounds {text}: expected left bottom right top, with left < right and bottom < top")
    if grid.transform is None:
        raise DataError(f"--bounds {text}: the raster has no position; leave --bounds out, or add a world file")
    x, y = ~grid.transform @ (np.array([left, left, right, right]), np.array([bottom, top, bottom, top]))
    rows, columns = _covering(y, grid.height_px), _covering(x, grid.width_px)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        corners = np.array([0, grid.width_px] * 2), np.array([0, 0, grid.height_px, grid.height_px])
        x, y = grid.transform @ corners
        raise DataError(
            f"--bounds {text}: outside the raster, which covers {min(x):.10g} {min(y):.10g} {max(x):.10g} "
            f"{max(y):.10g}; give bounds in the reference system of the raster"
        )
    return Region(rows, columns)


def part_of(text: str | None, region: Region) -> Part | None:
    """The part that a user asked for with `I/N`; None: the complete region.

    Raises:
        ParamsError: there is no such part.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    part = Part(int(found[1]), int(found[2])) if found else Part(0, 0)
    if not 1 <= part.number <= part.count:
        raise ParamsError(f"--part {text}: expected I/N with I from 1 to N, for example 2/4")
    longer_px = max(region.height_px, region.width_px)
    if part.count > longer_px:
        raise ParamsError(f"--part {text}: the map is only {longer_px} px long; use at most {longer_px} parts")
    return part


def _covering(places: np.ndarray, size_px: int) -> slice:
    """Pixels of a side that an interval touches."""
    return slice(max(0, floor(min(places) + NEAR_PX)), min(size_px, ceil(max(places) - NEAR_PX)))
