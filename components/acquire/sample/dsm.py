"""From true heights to a surface model as image matching measures it: terrain, soft edges, bumps, outliers, holes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from components.acquire.sample.canvas import GSD_M, LABELS, Canvas, Plane
from components.acquire.sample.materials import Site

NODATA = -9999.0
"""Height of a pixel that the matching could not measure."""

SWELLS_M = ((4400.0, 1.5), (900.0, 1.0), (130.0, 0.35))
"""Wavelength and height of the swells of the ground, metres, in each direction."""


def terrain(seed: int, side_px: int, east_m: float, north_m: float) -> Plane:
    """Heights of the bare ground above sea level, `[H, W]` metres: about 40, gentle swells.

    A city has one ground, so neighbouring tiles meet at the same height.

    Args:
        seed: of the city.
        side_px: rows and columns.
        east_m: of the tile's upper left corner.
        north_m: the same.
    """
    steps_m = (np.arange(side_px) + 0.5) * GSD_M
    phases = np.random.default_rng((seed, 1)).uniform(0, 2 * np.pi, (2, len(SWELLS_M)))
    along_x, along_y = (
        sum(
            height * np.sin(2 * np.pi * axis / length + phase)
            for (length, height), phase in zip(SWELLS_M, of, strict=True)
        )
        for axis, of in zip((east_m + steps_m, north_m - steps_m), phases, strict=True)
    )
    return (40.0 + along_x + along_y[:, None]).astype(np.float32)


def matched(site: Site) -> Plane:
    """Heights above the ground as matching sees them, `[H, W]` metres without the margin, NaN in holes."""
    canvas, rng = site.canvas, site.rng
    whole = canvas.all()
    wander = [0.06 * site.textures.cut("mottle", whole) / GSD_M for _ in range(2)]  # edges sway by a pixel or two
    rows, cols = np.mgrid[: canvas.full_px, : canvas.full_px].astype(np.float32)
    height = ndimage.map_coordinates(canvas.height_HW, (rows + wander[0], cols + wander[1]), order=1, mode="nearest")
    leafy = ndimage.gaussian_filter((canvas.label_HW == LABELS["tree"]).astype(np.float32), 3.0)
    smooth, smoother = ndimage.gaussian_filter(height, 1.6), ndimage.gaussian_filter(height, 4.0)
    height = smooth + leafy * (smoother - smooth)
    height += 0.025 * site.textures.cut("stain", whole) + (0.02 + 0.10 * leafy) * site.textures.cut("mottle", whole)
    height += 0.012 * rng.standard_normal(height.shape, np.float32)
    _blunders(canvas, rng, height)
    inner = slice(canvas.margin_px, canvas.full_px - canvas.margin_px)
    return height[inner, inner].astype(np.float32)


def _blunders(canvas: Canvas, rng: np.random.Generator, height_HW: Plane) -> None:
    """Spikes and pits a few decimetres wide, and holes at high edges, where no two cameras saw the same point."""
    area_m2 = (canvas.full_px * GSD_M) ** 2
    for _ in range(rng.poisson(area_m2 / 60)):
        disc = _disc(rng, canvas.full_px, rng.uniform(0, canvas.full_px, 2), rng.uniform(2, 6))
        height_HW[disc] += rng.normal(0.0, 0.8)
    steep = np.abs(ndimage.uniform_filter(canvas.height_HW, 15) - canvas.height_HW) > 2.0
    edges = np.argwhere(steep)
    for _ in range(rng.poisson(area_m2 / 70)):
        if len(edges):
            disc = _disc(rng, canvas.full_px, edges[rng.integers(len(edges))], rng.uniform(2, 8))
            height_HW[disc] = np.nan


def _disc(
    rng: np.random.Generator, end: int, centre: npt.NDArray[np.generic], radius: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Pixels of a disc, some of its rim frayed away."""
    row, col = (float(part) for part in centre)
    rows, cols = np.mgrid[int(row - radius) : int(row + radius) + 1, int(col - radius) : int(col + radius) + 1]
    near = np.hypot(rows - row, cols - col) <= radius * rng.uniform(0.7, 1.0, rows.shape)
    near &= (rows >= 0) & (rows < end) & (cols >= 0) & (cols < end)
    return rows[near], cols[near]
