"""Cars: a body with bonnet, cabin and tail, glass all round the cabin, and a typical car colour."""

from __future__ import annotations

import numpy as np

from components.acquire.sample.canvas import Colour, Frame
from components.acquire.sample.materials import Site

PAINTS: tuple[Colour, ...] = (
    (0.86, 0.86, 0.85),
    (0.66, 0.67, 0.68),
    (0.52, 0.53, 0.54),
    (0.30, 0.31, 0.33),
    (0.13, 0.13, 0.15),
    (0.52, 0.15, 0.14),
    (0.40, 0.11, 0.12),
    (0.18, 0.26, 0.43),
    (0.26, 0.36, 0.50),
    (0.90, 0.90, 0.90),
    (0.45, 0.47, 0.40),
    (0.61, 0.57, 0.49),
)
LENGTH_M, WIDTH_M = 4.5, 1.8
_GLASS = (0.13, 0.15, 0.17)


def car(site: Site, frame: Frame) -> None:
    """One car along `u`, on any surface; it is about 1.5 m high, a van about 2 m."""
    rng = site.rng
    van = bool(rng.random() < 0.12)
    half_u = LENGTH_M / 2 * (rng.uniform(1.08, 1.2) if van else rng.uniform(0.92, 1.06))
    half_v = WIDTH_M / 2 * (1.06 if van else rng.uniform(0.96, 1.03))
    patch = site.canvas.patch(frame.at(0, 0, np.pi * rng.integers(2)), half_u, half_v)
    if patch is None:
        return
    u, v = patch.u_HW / half_u, np.abs(patch.v_HW) / half_v
    inside = np.maximum(np.abs(u), 0) ** 5 + v**5 < 1.0
    front, back = (0.62, -0.93) if van else (0.32, -0.78 if rng.random() < 0.6 else -0.52)
    slant = 0.14 if van else 0.26  # length of the windscreen
    cabin = np.clip(np.minimum((front + slant - u) / slant, (u - back + 0.16) / 0.16), 0.0, 1.0)
    bonnet, roof = (1.1, 2.0) if van else (0.9, 1.47)
    crowned = 0.10 * (v**3 + np.abs(u) ** 6)
    height = site.canvas.height_at(frame) + bonnet + (roof - bonnet) * cabin - crowned
    glass = ((cabin > 0.08) & (cabin < 0.92) & (v < 0.84)) | ((cabin >= 0.92) & (v > 0.80) & (v < 0.93))
    paint = np.array(PAINTS[rng.integers(len(PAINTS))], np.float32) * rng.uniform(0.9, 1.08)
    colour = np.broadcast_to(paint, (*u.shape, 3)).copy()
    colour += 0.05 * np.exp(-((v - 0.35) ** 2) / 0.02)[..., None]  # sky in the paint
    colour[glass] = _GLASS
    colour[(np.abs(u) > 0.93) & (v > 0.45) & (v < 0.85)] = (
        (0.75, 0.72, 0.70) if rng.random() < 0.7 else (0.5, 0.2, 0.18)
    )
    site.canvas.lay(patch, inside, colour, label="car", height=height.astype(np.float32))
