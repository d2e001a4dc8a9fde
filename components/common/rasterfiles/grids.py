"""How a layer lies on the grid of its tile's image: on it, a few pixels short or larger, or on a grid of its own.

The image's grid is the tile's grid; without an image, the DSM's is. A layer on the same grid is read with an offset of
whole pixels; up to a limit, what it lacks at an edge is padded. A layer on another grid is warped in a user's own data,
and an error in a benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.warp import transform

from components.common.rasterfiles.formats import GDAL_ERRORS
from components.common.rasterfiles.position import NOTED_SHIFT_PX, crs_name, same_crs
from components.common.rasterfiles.rasters import Note, Place, Rejected

MAX_SHIFT_PX = 0.5
"""Benchmark data are read as they are up to this shift; it is noted. Beyond it, the files are not of one tile."""

LEAST_COVERED = 0.5
"""A layer that covers a smaller share of its image is probably of another place."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the pixels of a file or of a tile lie."""

    height_px: int
    width_px: int
    transform: Affine | None  # pixel -> map; None: unknown
    crs: CRS | None  # None: unknown


@dataclass(frozen=True, slots=True)
class Fit:
    """How a layer lies on the grid of its image."""

    image: Grid
    layer: Grid
    offset: tuple[int, int] | None  # row and column of the layer under the image's upper left pixel; None: warped
    extended: bool = False  # pixels beyond the layer's edges are taken from its edge
    notes: tuple[Note, ...] = ()
    doubt: str = ""  # why the layer may be of another place; empty: no doubt


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be done with a layer."""

    max_pad_px: int  # how much it may lack at an edge, pixels
    warp: bool  # whether it may lie on another grid: in a user's own data
    heights: bool  # whether it holds heights: padded by repeating the edge, warped bilinearly
    base: str = "image"  # what the tile's grid is taken from, for messages: the DSM if there is no image


def fit(path: Place, layer: Grid, image: Grid, rules: Rules) -> Fit:
    """Find out how a layer lies on the grid of its image.

    Raises:
        Rejected: the layer does not fit, and must not or cannot be warped.
    """
    if layer.transform is None or image.transform is None:
        return _without_position(path, layer, image, rules)
    why = ""
    if layer.crs is not None and image.crs is not None and not same_crs(layer.crs, image.crs):
        why = f"its reference system is {crs_name(layer.crs)}, the {rules.base}'s {crs_name(image.crs)}"
    else:
        row, column, shift_px = _offset(layer, image)
        if shift_px <= (NOTED_SHIFT_PX if rules.warp else MAX_SHIFT_PX):
            return _on_the_grid(path, layer, image, (row, column, shift_px), rules)
        why = f"it lies {shift_px:.2f} px off the {rules.base}'s grid"
        if shift_px > 1:
            why = f"its grid has another resolution, origin or orientation than the {rules.base}'s"
    if not rules.warp:
        sentence = (
            f"{why}; check that both files are of this tile and that their world files are right (layers are warped "
            "only with data.source: folder)"
        )
        raise Rejected("grid-mismatch", sentence, path)
    code = "warped" if rules.heights else "label-warped"
    look = "" if rules.heights else f": look at it over the {rules.base}, for example in QGIS"
    note = Note(code, f"{why}; warped to the {rules.base}'s grid{_assumed(layer, image, rules)}{look}")
    return Fit(image, layer, None, False, (note,), _doubt(layer, image, rules))


def covered_share(layer: Grid, image: Grid) -> float:
    """Share of an image that a layer covers, 0..1; both have a position."""
    return float(_under(image, layer).area / max(_outline(image, layer).area, 1e-9))


def _without_position(path: Place, layer: Grid, image: Grid, rules: Rules) -> Fit:
    lacks = image.height_px - layer.height_px, image.width_px - layer.width_px
    if lacks == (0, 0):
        return Fit(image, layer, (0, 0))
    if not rules.warp and all(0 <= px <= rules.max_pad_px for px in lacks):
        return Fit(image, layer, (0, 0), True, (_padded((0, lacks[0], 0, lacks[1]), rules),))
    lacking = "it" if layer.transform is None else f"the {rules.base}"
    sentence = (
        f"is {_size(layer)} px, the {rules.base} {_size(image)} px (width x height), and {lacking} has no position; "
        f"add a world file for {lacking}, or cut the layer to the {rules.base}'s size"
    )
    raise Rejected("grid-mismatch", sentence, path)


def _on_the_grid(path: Place, layer: Grid, image: Grid, place: tuple[int, int, float], rules: Rules) -> Fit:
    """A layer whose pixels lie on those of the image, at `place`: row and column in the image, and shift in pixels."""
    row, column, shift_px = place
    below, right = image.height_px - layer.height_px - row, image.width_px - layer.width_px - column
    lacks = row, below, column, right
    few = max(lacks) <= rules.max_pad_px
    if not rules.warp and not (few and min(lacks) >= 0):
        sentence = (
            f"is {_size(layer)} px (width x height) {column} px right of and {row} px below the {rules.base}'s corner, "
            f"the {rules.base} is {_size(image)} px; up to {rules.max_pad_px} px missing at an edge are padded "
            "(preprocess.max_pad_px): check that both files are of this tile"
        )
        raise Rejected("grid-mismatch", sentence, path)
    notes = []
    if layer.crs is None and image.crs is not None and layer.transform != image.transform:
        assumed = (
            f"states no reference system{_assumed(layer, image, rules)}; check that it lies where the {rules.base} does"
        )
        notes.append(Note("crs-assumed", assumed))
    if shift_px > NOTED_SHIFT_PX:
        shift = f"lies {shift_px:.2f} px off the {rules.base}'s grid; read as it is: resample it if that is wrong"
        notes.append(Note("grid-shift", shift))
    if few and max(lacks) > 0:
        notes.append(_padded(lacks, rules))
    elif not few:
        share = covered_share(layer, image)
        rest = "not measured" if rules.heights else "ignored"
        sentence = f"covers {100 * share:.1f} % of the {rules.base}; the rest is {rest}: cut the tile to leave it out"
        notes.append(Note("partly-covered", sentence))
    doubt = "" if few else _doubt(layer, image, rules)
    return Fit(image, layer, (-row, -column), few, tuple(notes), doubt)


def _offset(layer: Grid, image: Grid) -> tuple[int, int, float]:
    """Row and column of the image at which the layer starts, and how far its corners lie off whole pixels."""
    assert layer.transform is not None and image.transform is not None
    to_image: Affine = ~image.transform @ layer.transform
    column, row = (round(shift) for shift in to_image @ (0.0, 0.0))
    corners = np.array([(x, y) for x in (0.0, layer.width_px) for y in (0.0, layer.height_px)])
    shifts = np.array([to_image @ (x, y) for x, y in corners]) - corners - (column, row)
    return row, column, round(float(np.abs(shifts).max()), 3)


def _doubt(layer: Grid, image: Grid, rules: Rules) -> str:
    share = covered_share(layer, image)
    if share >= LEAST_COVERED:
        return ""
    what = f"covers {100 * share:.0f} % of the {rules.base}"
    return f"{what}: is it of another place, or its reference system wrong (data.crs)?"


def _under(image: Grid, layer: Grid) -> shapely.Polygon:
    """The part of a layer under an image, in pixels of the layer."""
    return _outline(image, layer).intersection(shapely.box(0, 0, layer.width_px, layer.height_px))


def _outline(image: Grid, layer: Grid) -> shapely.Polygon:
    """The outline of an image in pixels of a layer; empty where no transformation leads there."""
    x, y = rim(slice(0, image.height_px), slice(0, image.width_px))
    column, row = to_layer(image, layer, x, y)
    if not (np.isfinite(column).all() and np.isfinite(row).all()):
        return shapely.Polygon()
    return shapely.MultiPoint(np.stack([column, row], axis=1)).convex_hull


def to_layer(
    image: Grid, layer: Grid, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Columns and rows of a layer at N points of an image, all `[N]`, pixels.

    Values are NaN or infinite where no transformation leads to the layer.
    """
    assert image.transform is not None and layer.transform is not None
    east, north = image.transform @ (x, y)
    if layer.crs and image.crs and not same_crs(layer.crs, image.crs):
        try:
            east, north = (np.array(axis) for axis in transform(image.crs, layer.crs, east, north))
        except GDAL_ERRORS:
            east = north = np.full(len(x), np.nan)
    column, row = ~layer.transform @ (east, north)
    return column, row


def rim(rows: slice, columns: slice, steps: int = 33) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Columns and rows of points all around a rectangle of an image, both `[4 * steps]`, pixels."""
    along, down = np.linspace(columns.start, columns.stop, steps), np.linspace(rows.start, rows.stop, steps)
    x = np.concatenate([along, along, np.full(steps, columns.start), np.full(steps, columns.stop)])
    y = np.concatenate([np.full(steps, rows.start), np.full(steps, rows.stop), down, down])
    return x, y


def _padded(lacks: tuple[int, int, int, int], rules: Rules) -> Note:
    sides = zip(("top", "bottom", "left", "right"), lacks, strict=True)
    where = ", ".join(f"{px} px at the {side}" for side, px in sides if px > 0)
    how = "by repeating the edge" if rules.heights else "with the label 255 (ignore)"
    return Note("padded", f"smaller than the {rules.base}; padded {where} {how}")


def _assumed(layer: Grid, image: Grid, rules: Rules) -> str:
    if layer.crs is not None or image.crs is None:
        return ""
    return f", the {rules.base}'s {crs_name(image.crs)} is assumed"


def _size(grid: Grid) -> str:
    return f"{grid.width_px} x {grid.height_px}"
