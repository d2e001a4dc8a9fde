"""From a painted canvas to a photograph: sun, cast shadows, sky light, haze, lens and sensor.

Light is added up in linear intensity and turned into sRGB at the end, so shadows are as deep and as blue as in a
photograph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from components.acquire.sample.canvas import GSD_M, Canvas, Plane

_SUN = np.array((1.04, 1.0, 0.93), np.float32)
_SKY = np.array((0.84, 0.97, 1.22), np.float32)
_SKY_SHARE = 0.26  # of the light on open, level ground
_GAMMA = 2.2


@dataclass(frozen=True, slots=True)
class Sun:
    """Where the light comes from."""

    azimuth: float  # radians from x (right) towards y (down)
    elevation: float  # radians above the horizon


def photograph(canvas: Canvas, sun: Sun, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The image of the tile without its margin, `[H, W, 3]` uint8 RGB."""
    lit = ndimage.gaussian_filter(1.0 - cast_shadow(canvas.height_HW, sun), 0.8)
    direct = lit * _facing(canvas, sun) * (1.0 - _SKY_SHARE)
    indirect = _openness(canvas.height_HW) * _SKY_SHARE
    light_HW3 = direct[..., None] * _SUN + indirect[..., None] * _SKY
    inner = slice(canvas.margin_px, canvas.full_px - canvas.margin_px)
    seen = (np.clip(canvas.colour_HW3, 0.01, 1.0) ** _GAMMA * light_HW3)[inner, inner]
    seen = ndimage.gaussian_filter(seen, (0.65, 0.65, 0.0))  # lens
    seen = 1.22 * seen * rng.uniform(0.95, 1.06) + np.array((0.010, 0.013, 0.018), np.float32)  # exposure, haze
    picture = 255.0 * np.clip(seen, 0.0, 1.0) ** (1.0 / _GAMMA)
    noise = rng.standard_normal
    picture += 1.6 * noise(picture.shape[:2], np.float32)[..., None] + 1.3 * noise(picture.shape, np.float32)  # sensor
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def cast_shadow(height_HW: Plane, sun: Sun) -> Plane:
    """Share of the sun that is hidden by something nearer to it, 0..1.

    A ray towards the sun rises by tan(elevation) per metre. What reaches highest above each ray is found by doubling:
    among the first 2 pixels, then 4, 8, ... up to the longest shadow.
    """
    rise_per_px = math.tan(sun.elevation) * GSD_M
    over = height_HW.copy()
    reach = 1
    while reach * rise_per_px < float(height_HW.max()):
        down, right = round(reach * math.sin(sun.azimuth)), round(reach * math.cos(sun.azimuth))
        over = np.maximum(over, _shifted(over, down, right) - np.float32(math.hypot(down, right) * rise_per_px))
        reach *= 2
    hidden: Plane = np.clip((over - height_HW - 0.04) / 0.10, 0.0, 1.0)
    return hidden


def _shifted(plane_HW: Plane, down: int, right: int) -> Plane:
    """The values `down` rows and `right` columns away; very low beyond the edge."""
    moved = np.full_like(plane_HW, -1e3)
    height, width = plane_HW.shape
    if abs(down) < height and abs(right) < width:
        moved[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)] = plane_HW[
            max(down, 0) : height - max(-down, 0), max(right, 0) : width - max(-right, 0)
        ]
    return moved


def _facing(canvas: Canvas, sun: Sun) -> Plane:
    """How squarely a surface faces the sun, as a multiple of level ground."""
    down, right = canvas.slope_2HW
    towards = math.cos(sun.azimuth) * right + math.sin(sun.azimuth) * down
    cosine = (math.sin(sun.elevation) - math.cos(sun.elevation) * towards) / np.sqrt(1.0 + down**2 + right**2)
    facing: Plane = np.clip(cosine, 0.0, 1.0) / math.sin(sun.elevation)
    return facing


def _openness(height_HW: Plane) -> Plane:
    """Approximate share of the sky that a surface sees: less next to and between higher objects."""
    near = ndimage.uniform_filter(height_HW, 9) - height_HW
    far = ndimage.uniform_filter(ndimage.uniform_filter(height_HW, 41), 41) - height_HW
    openness: Plane = 1.0 / (1.0 + 0.9 * np.maximum(near, 0.0) + 0.22 * np.maximum(far, 0.0))
    return openness
