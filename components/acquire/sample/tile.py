"""One tile of the generated city: plan, paint, photograph, measure. The seed and the tile id determine everything."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.acquire.sample.canvas import GSD_M, Canvas
from components.acquire.sample.dsm import matched, terrain
from components.acquire.sample.ground import paint_streets
from components.acquire.sample.layout import plan
from components.acquire.sample.light import Sun, photograph
from components.acquire.sample.lots import paint_lot
from components.acquire.sample.materials import Site
from components.acquire.sample.noise import Textures

MARGIN_M = 8.0
"""Margin around a tile: wider than a crown and about as long as the shadow of a house."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The layers of one tile."""

    image_HW3: npt.NDArray[np.uint8]  # RGB
    dsm_HW: npt.NDArray[np.float32]  # metres above sea level, NaN = not measured
    label_HW: npt.NDArray[np.uint8]  # classes
    east_m: float  # of the upper left corner
    north_m: float


def make_scene(seed: int, tile: str, side_px: int) -> Scene:
    """Generate a tile.

    Args:
        seed: of the city, >= 0.
        tile: id of the form row_column.
        side_px: rows and columns.
    """
    row, column = (int(part) for part in tile.split("_"))
    site = paint(np.random.default_rng((seed, row, column)), side_px)
    canvas = site.canvas
    inner = slice(canvas.margin_px, canvas.full_px - canvas.margin_px)
    side_m = side_px * GSD_M  # neighbouring tiles touch
    east_m, north_m = 366_000.0 + side_m * column, 5_808_000.0 - side_m * row
    dsm_HW = terrain(seed, side_px, east_m, north_m) + matched(site)
    image_HW3 = photograph(canvas, sun_of(seed), site.rng)
    return Scene(image_HW3, dsm_HW.astype(np.float32), canvas.label_HW[inner, inner].copy(), east_m, north_m)


def paint(rng: np.random.Generator, side_px: int) -> Site:
    """Plan a piece of town and paint everything that stands in it."""
    canvas = Canvas(side_px, round(MARGIN_M / GSD_M))
    site = Site(canvas, Textures(rng), rng)
    streets, lots = plan(rng, canvas.reach_m)
    paint_streets(site, streets)
    for lot in lots:
        paint_lot(site, lot)
    return site


def sun_of(seed: int) -> Sun:
    """The sun over a city; all tiles belong to one flight."""
    rng = np.random.default_rng((seed, 0))
    return Sun(rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(46, 54)))
