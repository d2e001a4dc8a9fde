"""Surfaces: a table of materials, and the function that paints any of them.

Two groups are shared on purpose. Streets, yards and flat roofs use `PAVED`; hedges, shrubs and crowns use `GREENS`.
Only their heights tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from components.acquire.sample.canvas import Canvas, Colour, Patch, Plane
from components.acquire.sample.noise import Textures


@dataclass(frozen=True, slots=True)
class Site:
    """Arguments of every painter: canvas, textures and random numbers."""

    canvas: Canvas
    textures: Textures
    rng: np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """A surface. Strengths are relative deviations of brightness."""

    rgb: Colour
    other: Colour  # the surface wanders between the two colours from place to place
    varies: float = 0.05  # from one object to the next
    grain: float = 0.05  # from pixel to pixel
    mottle: float = 0.03  # over decimetres
    stain: float = 0.05  # over metres
    streak: float = 0.0  # along the object's axis
    slab_m: tuple[float, float] = (0.0, 0.0)  # size of a slab, tile or sheet along u and v; 0: none
    slab_varies: float = 0.0  # from slab to slab
    joint: float = 0.0  # how much darker the joints are
    cracks: float = 0.0  # how much darker the cracks are


# fmt: off
MATERIALS = {
    # streets, yards, flat roofs
    "asphalt": Material(rgb=(0.43, 0.43, 0.43), other=(0.50, 0.49, 0.48), varies=0.10, mottle=0.02, stain=0.04,
                        streak=0.035, cracks=0.28),
    "tar": Material(rgb=(0.37, 0.37, 0.38), other=(0.45, 0.44, 0.43), varies=0.10, mottle=0.02, stain=0.05, streak=0.03,
                    slab_m=(8.0, 1.0), slab_varies=0.02, joint=0.10, cracks=0.12),
    "concrete": Material(rgb=(0.61, 0.60, 0.57), other=(0.54, 0.52, 0.49), varies=0.08, stain=0.07,
                         slab_m=(2.5, 2.5), slab_varies=0.04, joint=0.22, cracks=0.12),
    "slabs": Material(rgb=(0.60, 0.58, 0.54), other=(0.52, 0.50, 0.47), varies=0.08, stain=0.06,
                      slab_m=(0.5, 0.5), slab_varies=0.06, joint=0.16),
    "setts": Material(rgb=(0.51, 0.48, 0.45), other=(0.44, 0.42, 0.41), varies=0.10, grain=0.07, stain=0.06,
                      slab_m=(0.2, 0.16), slab_varies=0.09, joint=0.10),
    "clinker": Material(rgb=(0.53, 0.41, 0.36), other=(0.47, 0.39, 0.35), varies=0.10, stain=0.06,
                        slab_m=(0.25, 0.12), slab_varies=0.08, joint=0.08),
    "gravel": Material(rgb=(0.58, 0.55, 0.50), other=(0.50, 0.48, 0.43), varies=0.10, grain=0.14, mottle=0.06,
                       stain=0.08),
    # open ground
    "lawn": Material(rgb=(0.38, 0.45, 0.25), other=(0.49, 0.51, 0.32), varies=0.10, grain=0.09, mottle=0.08,
                     streak=0.04),
    "meadow": Material(rgb=(0.34, 0.40, 0.22), other=(0.52, 0.50, 0.33), varies=0.12, grain=0.13, mottle=0.16,
                       stain=0.09),
    "soil": Material(rgb=(0.43, 0.36, 0.29), other=(0.51, 0.44, 0.35), varies=0.12, grain=0.09, mottle=0.10),
    "sand": Material(rgb=(0.70, 0.63, 0.50), other=(0.62, 0.55, 0.43), varies=0.08, mottle=0.06),
    "rubble": Material(rgb=(0.56, 0.52, 0.47), other=(0.46, 0.40, 0.36), varies=0.10, grain=0.22, mottle=0.15),
    # pitched roofs, and flat ones with plants
    "red tiles": Material(rgb=(0.58, 0.34, 0.25), other=(0.50, 0.33, 0.27), varies=0.10, stain=0.07,
                          slab_m=(0.25, 0.34), slab_varies=0.06, joint=0.20),
    "brown tiles": Material(rgb=(0.43, 0.32, 0.27), other=(0.38, 0.31, 0.27), varies=0.10, stain=0.07,
                            slab_m=(0.25, 0.34), slab_varies=0.06, joint=0.18),
    "dark tiles": Material(rgb=(0.34, 0.34, 0.36), other=(0.39, 0.39, 0.38), varies=0.10, stain=0.06,
                           slab_m=(0.30, 0.34), slab_varies=0.05, joint=0.16),
    "sedum": Material(rgb=(0.42, 0.44, 0.27), other=(0.47, 0.41, 0.31), varies=0.08, grain=0.11, mottle=0.12),
}
# fmt: on

PAVED = ("asphalt", "tar", "concrete", "slabs", "setts", "clinker", "gravel")
"""Streets, yards and flat roofs."""

PITCHED = ("red tiles", "red tiles", "brown tiles", "dark tiles")

GREENS: tuple[tuple[Colour, Colour], ...] = (
    ((0.22, 0.31, 0.15), (0.32, 0.40, 0.20)),
    ((0.26, 0.35, 0.17), (0.37, 0.44, 0.24)),
    ((0.28, 0.34, 0.18), (0.41, 0.43, 0.26)),
    ((0.19, 0.28, 0.17), (0.28, 0.36, 0.22)),
    ((0.33, 0.39, 0.19), (0.46, 0.48, 0.28)),
)
"""Darker and lighter colour of one plant: lawns, hedges, shrubs and crowns."""


def surface(site: Site, patch: Patch, name: str, *, tone: float | None = None) -> Plane:
    """Colour of a material over a patch, as if lit evenly.

    Args:
        site: textures and randomness.
        patch: where; slabs and streaks lie along its axes.
        name: key of `MATERIALS`.
        tone: brightness of this object; None draws one.

    Returns:
        `[H, W, 3]` float32 sRGB, 0..1.
    """
    material, cut = MATERIALS[name], site.textures.cut
    bright = float(np.exp(site.rng.normal(0.0, material.varies))) if tone is None else tone
    value = 1.0 + material.grain * cut("grain", patch) + material.mottle * cut("mottle", patch)
    value += material.stain * cut("stain", patch)
    if material.streak:
        value += material.streak * site.textures.along("streak", patch)
    if material.slab_m[0]:
        value *= slabs(site, patch, material)
    if material.cracks:
        crack = np.abs(cut("stain", patch) + 0.25 * cut("mottle", patch)) < 0.02
        value[crack & (cut("stain", patch) > 0.3)] *= 1.0 - material.cracks
    return blend(site, patch, material.rgb, material.other) * (bright * value)[..., None]


def blend(site: Site, patch: Patch, rgb: Colour, other: Colour) -> Plane:
    """Two colours that turn into each other over metres, `[H, W, 3]`."""
    share = np.clip(0.5 + 0.3 * site.textures.cut("stain", patch) + 0.15 * site.textures.cut("mottle", patch), 0.0, 1.0)
    start, end = np.array(rgb, np.float32), np.array(other, np.float32)
    mixed: Plane = start + share[..., None] * (end - start)
    return mixed


def slabs(site: Site, patch: Patch, material: Material) -> Plane:
    """Brightness of slabs, each its own, with darker joints; every second row is shifted by half a slab."""
    length, width = material.slab_m
    across = patch.v_HW / width
    row = np.floor(across)
    along = patch.u_HW / length + 0.5 * (row % 2)
    column = np.floor(along)
    table = site.rng.normal(1.0, material.slab_varies, 1021).astype(np.float32)
    value: Plane = table[(row * 37 + column * 101).astype(np.int64) % table.size]
    line = 0.03  # metres from slab edge to joint centre that a pixel of 5 cm still sees
    joint = (np.minimum(across - row, row + 1 - across) * width < line) | (
        np.minimum(along - column, column + 1 - along) * length < line
    )
    value[joint] *= 1.0 - material.joint
    return value
