"""The four files of one tile: whether they are there, and how each layer lies on the image's grid.

All layers of a tile share the grid of its image. A layer may lack a few rows or columns at an edge (the DSM of Potsdam
3_13 is one column narrower); it may not lie elsewhere, be larger, or have another resolution or reference system.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from rasterio import Affine
from rasterio.crs import CRS

from components.common.errors import DataError
from components.common.isprs import Dataset, FileKind, Split
from components.common.rasters import Raster, same_crs

KINDS: tuple[FileKind, ...] = ("image", "dsm", "label", "eroded")

MAX_SHIFT_PX = 0.5
"""A layer further than this from the image's grid, at any corner, needs warping, not padding."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the pixels of a tile lie."""

    height_px: int
    width_px: int
    transform: Affine | None  # pixel -> map, metres; None: no file of the tile says
    crs: CRS


@dataclass(frozen=True, slots=True)
class Padding:
    """What a layer lacks at the edges of the image, pixels."""

    top: int
    bottom: int
    left: int
    right: int

    def __bool__(self) -> bool:
        """Whether anything is lacking."""
        return any(max(sides) for sides in self.sides())

    def sides(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Of the rows and of the columns, as `numpy.pad` wants it."""
        return (self.top, self.bottom), (self.left, self.right)


def require_files(raw: Path, dataset: Dataset, split: Split) -> None:
    """Check that every file of every tile of a split is there.

    Raises:
        DataError: files are missing; the sentence names the first one and counts all.
    """
    wanted = [(tile, dataset.path(kind, tile)) for tile in split.tiles for kind in KINDS]
    missing = [(tile, path) for tile, path in wanted if not (raw / path).is_file()]
    if missing:
        tile, path = missing[0]
        raise DataError(
            f"{raw / path}: no such file, needed for tile {tile}; of the {len(wanted)} files of the split "
            f"{split.name}, {len(missing)} are missing: run the acquire step again or choose another preprocess.split"
        )


def grid_of(image: Raster, dsm: Raster, default_crs: CRS) -> Grid:
    """The grid of a tile: the image's, georeferenced by the DSM where the image is not."""
    height_px, width_px = image.pixels_BHW.shape[1:]
    return Grid(height_px, width_px, image.transform or dsm.transform, image.crs or dsm.crs or default_crs)


def padding(path: Path, layer: Raster, grid: Grid, max_px: int) -> Padding:
    """What must be added around a layer to give it the image's size.

    A layer without a georeference is taken to start at the image's upper left corner.

    Args:
        path: the layer's file, for messages.
        layer: what is in it.
        grid: of the image.
        max_px: how much may be added at each edge.

    Raises:
        DataError: the layer has another reference system, resolution or place, or lacks more than that.
    """
    if layer.crs is not None and not same_crs(layer.crs, grid.crs):
        raise DataError(f"{path}: its reference system is {_name(layer.crs)}, the image's {_name(grid.crs)}; warp it")
    height, width = layer.pixels_BHW.shape[1:]
    row, column = _offset(path, layer, grid)
    lacks = Padding(row, grid.height_px - height - row, column, grid.width_px - width - column)
    if not all(0 <= px <= max_px for sides in lacks.sides() for px in sides):
        place = f" {column} px right of and {row} px below the image's corner" if (row, column) != (0, 0) else ""
        raise DataError(
            f"{path}: is {width} x {height} px (w x h){place}, the image {grid.width_px} x {grid.height_px}; up to "
            f"{max_px} px missing at an edge are padded (preprocess.max_pad_px): check that both files are of one tile"
        )
    return lacks


def _offset(path: Path, layer: Raster, grid: Grid) -> tuple[int, int]:
    """Row and column of the image at which the layer starts."""
    if layer.transform is None or grid.transform is None:
        return 0, 0
    to_image = ~grid.transform @ layer.transform
    column, row = (round(shift) for shift in to_image @ (0.0, 0.0))
    height, width = layer.pixels_BHW.shape[1:]
    corners = np.array([(x, y) for x, y in product((0.0, width), (0.0, height))])
    shifts = np.array([to_image @ (x, y) for x, y in corners]) - corners - (column, row)
    worst_px = float(np.abs(shifts).max())
    if round(worst_px, 3) > MAX_SHIFT_PX:
        raise DataError(
            f"{path}: lies {worst_px:.2f} px off the image's grid, at most {MAX_SHIFT_PX} is allowed; check the world "
            "file or warp the layer onto the image"
        )
    return row, column


def _name(crs: CRS) -> str:
    return str(crs.to_string()) if len(crs.to_string()) < 40 else "another one without an EPSG code"
