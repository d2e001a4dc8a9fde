"""How the files of a tile lie on the grid of its image: the same, a few pixels short at an edge, or elsewhere.

All layers of a tile share the grid of its image. A layer may lack a few rows or columns (the DSM of Potsdam 3_13 is one
column narrower): it is padded. One that lies elsewhere, is larger, or has another resolution or reference system does
not fit; it can be warped if both files say where they lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from rasterio import Affine
from rasterio.crs import CRS

from components.common.errors import DataError
from components.common.readers.rasters import Grid, same_crs

MAX_SHIFT_PX = 0.5
"""A layer further than this from the image's grid, at any corner, needs warping, not padding."""


class GridError(DataError):
    """A layer does not lie on its image's grid."""


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

    def __str__(self) -> str:
        """The edges at which something is lacking, in words."""
        sides = ("top", "bottom", "left", "right")
        return ", ".join(f"{getattr(self, side)} px at the {side}" for side in sides if getattr(self, side))

    def sides(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Of the rows and of the columns, as `numpy.pad` wants it."""
        return (self.top, self.bottom), (self.left, self.right)


def grid_of(image: Grid, dsm: Grid, default_crs: CRS | None) -> Grid:
    """The grid of a tile: the image's, georeferenced by the DSM where the image is not."""
    transform, crs = image.transform or dsm.transform, image.crs or dsm.crs or default_crs
    return Grid(image.height_px, image.width_px, transform, crs)


def padding(path: Path, layer: Grid, image: Grid, max_px: int) -> Padding:
    """What must be added around a layer to give it the image's size.

    A layer without a georeference is taken to start at the image's upper left corner.

    Args:
        path: the layer's file, for messages.
        layer: where its pixels lie.
        image: where those of the image lie.
        max_px: how much may be added at each edge.

    Raises:
        GridError: the layer has another reference system, resolution or place, or lacks more than that.
    """
    if layer.crs is not None and image.crs is not None and not same_crs(layer.crs, image.crs):
        raise GridError(f"{path}: its reference system is {_name(layer.crs)}, the image's {_name(image.crs)}")
    row, column = _offset(path, layer, image)
    below, right = image.height_px - layer.height_px - row, image.width_px - layer.width_px - column
    lacks = Padding(row, below, column, right)
    if not all(0 <= px <= max_px for sides in lacks.sides() for px in sides):
        place = f" {column} px right of and {row} px below the image's corner" if (row, column) != (0, 0) else ""
        raise GridError(
            f"{path}: is {layer.width_px} x {layer.height_px} px (w x h){place}, the image {image.width_px} x "
            f"{image.height_px}; up to {max_px} px missing at an edge are padded (preprocess.max_pad_px)"
        )
    return lacks


def _offset(path: Path, layer: Grid, image: Grid) -> tuple[int, int]:
    """Row and column of the image at which the layer starts."""
    if layer.transform is None or image.transform is None:
        return 0, 0
    to_image: Affine = ~image.transform @ layer.transform
    column, row = (round(shift) for shift in to_image @ (0.0, 0.0))
    corners = np.array([(x, y) for x, y in product((0.0, layer.width_px), (0.0, layer.height_px))])
    shifts = np.array([to_image @ (x, y) for x, y in corners]) - corners - (column, row)
    worst_px = float(np.abs(shifts).max())
    if round(worst_px, 3) > MAX_SHIFT_PX:
        raise GridError(f"{path}: lies {worst_px:.2f} px off the image's grid, at most {MAX_SHIFT_PX} is allowed")
    return row, column


def _name(crs: CRS) -> str:
    return str(crs.to_string()) if len(crs.to_string()) < 40 else "another one without an EPSG code"
