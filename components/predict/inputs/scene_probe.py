"""A look at a scene before it is mapped: what identifies it, and which values its sensors have.

At most `MOST_BLOCKS` blocks are read, spread over the raster, so that this takes seconds on a scene of any size.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.common.data.height_scaling import Histogram, histogram, merged
from components.common.rasterfiles.grids import Grid
from components.common.readers.images import ImageLayer, ImageRows
from components.common.readers.scene import Scene

BLOCK_PX = 512
"""Side of the blocks in which a scene is read; they are counted from its upper left corner."""

MOST_BLOCKS = 64
"""At most so many blocks are read."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a look at some blocks of a scene found."""

    fingerprint: str  # sha256 of the grid and of the pixels of these blocks; does not depend on the names of files
    image_values: tuple[tuple[float, float], ...]  # lowest and highest per band, with scale and offset; empty: no image
    metres: tuple[float, float] | None  # lowest and highest height; None: no DSM, or nothing measured
    overlap: float  # share of image pixels with a height, 0..1; 1 without an image or a DSM


def block_of(i: int, j: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a block of a raster with so many rows and columns."""
    sides = (slice(k * BLOCK_PX, min((k + 1) * BLOCK_PX, size)) for k, size in zip((i, j), shape, strict=True))
    rows, columns = sides
    return rows, columns


def spread_blocks(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Blocks spread evenly over a raster, with its corners: all if there are at most `MOST_BLOCKS`."""
    down, right = (-(-size // BLOCK_PX) for size in shape)
    if down * right <= MOST_BLOCKS:
        return [(i, j) for i in range(down) for j in range(right)]
    side = round(MOST_BLOCKS**0.5)
    rows = min(down, max(side, MOST_BLOCKS // right))
    return [(i, j) for i in _evenly(down, rows) for j in _evenly(right, MOST_BLOCKS // rows)]


def probed(scene: Scene) -> tuple[Probe, Histogram]:
    """Read some blocks of a scene. The histogram counts the heights that were seen.

    Blocks are read again while that reveals values of the DSM that mark missing pixels, so that later reads have the
    same holes everywhere.
    """
    while True:
        look = _Look(scene)
        for i, j in spread_blocks((scene.grid.height_px, scene.grid.width_px)):
            look.at(*block_of(i, j, (scene.grid.height_px, scene.grid.width_px)))
        if scene.dsm is None or not scene.dsm.learned():
            break
    if scene.dsm is not None:
        scene.dsm.restart()
    heights = merged(look.heights)
    return look.result(), heights


class _Look:
    """Collects what blocks of a scene show."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._digest = scene, hashlib.sha256(_identity(scene.grid))
        self._values: list[tuple[float, float]] | None = None
        self._metres: tuple[float, float] | None = None
        self._image_px = self._both_px = 0
        self.heights: list[Histogram] = []

    def at(self, rows: slice, columns: slice) -> None:
        """Take in a block."""
        scene, there_hw = self._scene, np.ones((rows.stop - rows.start, columns.stop - columns.start), np.bool_)
        if scene.image is not None:
            read = scene.image.rows(rows, columns)
            if read.missing_hW is not None:
                there_hw = ~read.missing_hW
                read.image_hWC[read.missing_hW] = 0
                self._digest.update(np.packbits(there_hw).tobytes())
            self._digest.update(np.ascontiguousarray(read.image_hWC).data)
            if there_hw.any():
                self._values = _widened(self._values, _ranges(scene.image, read, there_hw))
        if scene.dsm is not None:
            metres_hw = scene.dsm.metres(rows, columns)
            measured_hw = np.isfinite(metres_hw)
            metres_hw[~measured_hw] = np.nan  # NaN in one form
            self._digest.update(np.ascontiguousarray(metres_hw).data)
            self._image_px += int(np.count_nonzero(there_hw))
            self._both_px += int(np.count_nonzero(there_hw & measured_hw))
            self.heights.append(histogram(metres_hw))
            if measured_hw.any():
                seen = [(float(np.nanmin(metres_hw)), float(np.nanmax(metres_hw)))]
                (self._metres,) = _widened(None if self._metres is None else [self._metres], seen)

    def result(self) -> Probe:
        """What was seen."""
        both = self._scene.image is not None and self._scene.dsm is not None and self._image_px > 0
        return Probe(
            fingerprint=self._digest.hexdigest(),
            image_values=tuple(self._values or ()),
            metres=self._metres,
            overlap=self._both_px / self._image_px if both else 1.0,
        )


def _identity(grid: Grid) -> bytes:
    """Size, position and reference system; a VRT writes fewer digits of numbers than a TIFF."""
    numbers = None if grid.transform is None else [f"{number:.12g}" for number in grid.transform[:6]]
    crs = None if grid.crs is None else grid.crs.to_string()
    return json.dumps([grid.height_px, grid.width_px, numbers, crs]).encode()


def _ranges(image: ImageLayer, read: ImageRows, there_hw: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Lowest and highest value of each band, where there is an image."""
    ranges = []
    for band, pixels_hw in enumerate(read.pixels_BhW):
        valid: npt.NDArray[Any] = pixels_hw[there_hw]
        low, high = sorted(image.values(np.array([valid.min(), valid.max()], np.float64), band).tolist())
        ranges.append((low, high))
    return ranges


def _widened(before: list[tuple[float, float]] | None, ranges: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if before is None:
        return ranges
    return [(min(a, c), max(b, d)) for (a, b), (c, d) in zip(before, ranges, strict=True)]


def _evenly(count: int, wanted: int) -> list[int]:
    """Indices spread evenly over a count, with the first and the last."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, wanted)).tolist()})
