"""From true heights to a surface model as image matching measures it: terrain, soft edges, bumps, outliers, holes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from components.acquire.sample.canvas import GSD_M, LABELS, Canvas, Plane
from components.acquire.sample.materials import Site

NODATA = -9999.0
"""Height of a pixel that the matching could not measure."""


def terrain(side_px: int, east_m: float, north_m: float, rng: np.random.Generator) -> Plane:
    """Heights of the bare ground above sea level, `[H, W]` metres: about 40, a gentle slope, two swells.

    Args:
        side_px: rows and columns.
        east_m: of the tile, so that neighbours lie at similar heights.
        north_m: the same.
        rng: the tile's own swells.
    """
    level = 40.0 + 2.5 * np.sin(east_m / 700.0) + 1.5 * np.cos(north_m / 500.0)
    y, x = np.mgrid[:side_px, :side_px].astype(np.float32) * np.float32(GSD_M)
    slope_x, slope_y = rng.normal(0.0, 0.008, 2)
    swell = 0.35 * np.sin(x / 19.0 + rng.uniform(0, 6)) + 0.35 * np.sin(y / 23.0 + rng.uniform(0, 6))
    return (level + slope_x * x + slope_y * y + swell).astype(np.float32)


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
