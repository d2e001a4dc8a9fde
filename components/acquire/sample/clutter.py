"""Clutter: containers, skips, piles, pools, ponds, bins, stacks: what fits no other class, of any colour and height."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from components.acquire.sample.buildings import box
from components.acquire.sample.canvas import Colour, Frame, Patch
from components.acquire.sample.materials import Site, surface

CONTAINERS: tuple[Colour, ...] = (
    (0.22, 0.36, 0.50), (0.55, 0.22, 0.17), (0.30, 0.42, 0.30),
    (0.66, 0.66, 0.64), (0.62, 0.44, 0.20), (0.42, 0.43, 0.44),
)  # fmt: skip


def container(site: Site, frame: Frame) -> None:
    """A shipping container or site hut, 6 x 2.4 m, with a ribbed roof."""
    patch = site.canvas.patch(frame, 3.0, 1.2)
    if patch is None:
        return
    paint = np.array(CONTAINERS[site.rng.integers(len(CONTAINERS))], np.float32) * site.rng.uniform(0.85, 1.1)
    ribs = 1.0 + 0.10 * np.sign(np.sin(patch.u_HW * 2 * np.pi / 0.3)) + 0.06 * site.textures.cut("mottle", patch)
    inside = (np.abs(patch.u_HW) < 3.0) & (np.abs(patch.v_HW) < 1.2)
    site.canvas.lay(patch, inside, paint * ribs[..., None], label="clutter", height=2.55)


def skip(site: Site, frame: Frame) -> None:
    """An open skip, 3.4 x 1.8 m, full of rubble."""
    patch = site.canvas.patch(frame, 1.7, 0.9)
    if patch is None:
        return
    edge = np.minimum(1.7 - np.abs(patch.u_HW), 0.9 - np.abs(patch.v_HW))
    paint = CONTAINERS[site.rng.integers(len(CONTAINERS))]
    load = 1.1 + 0.12 * site.textures.cut("mottle", patch)
    site.canvas.lay(patch, edge > 0, surface(site, patch, "rubble"), label="clutter", height=load)
    site.canvas.lay(patch, (edge > 0) & (edge < 0.1), paint, label="clutter", height=1.5)


def pile(site: Site, frame: Frame) -> None:
    """A heap of sand, soil or rubble, up to 2 m high."""
    rng = site.rng
    half_u, half_v, top = rng.uniform(1.2, 2.6), rng.uniform(1.0, 1.9), rng.uniform(0.7, 2.0)
    patch = site.canvas.patch(frame, 1.3 * half_u, 1.3 * half_v)
    if patch is None:
        return
    distance = np.hypot(patch.u_HW / half_u, patch.v_HW / half_v) + 0.07 * site.textures.cut("mottle", patch)
    height = top * (1.0 - distance) + 0.06 * site.textures.cut("grain", patch)
    colour = surface(site, patch, str(rng.choice(("sand", "soil", "rubble"))))
    site.canvas.lay(patch, distance < 1.0, colour, label="clutter", height=np.maximum(height, 0.05))


def pool(site: Site, frame: Frame) -> None:
    """A garden pool with a light rim."""
    half_u, half_v = site.rng.uniform(1.8, 3.2), site.rng.uniform(1.2, 1.8)
    patch = site.canvas.patch(frame, half_u + 0.3, half_v + 0.3)
    if patch is None:
        return
    edge = _rounded(patch, half_u, half_v, site.rng.uniform(0.2, 1.0))
    site.canvas.lay(patch, edge < 0.25, (0.70, 0.68, 0.63), label="clutter")
    ripple = 1.0 + 0.05 * site.textures.cut("mottle", patch) + 0.03 * site.textures.cut("grain", patch)
    water = np.array((0.30, 0.56, 0.64), np.float32) * ripple[..., None]
    site.canvas.lay(patch, edge < 0, water, label="clutter")


def pond(site: Site, frame: Frame) -> None:
    """Dark water with an uneven shore."""
    radius = site.rng.uniform(2.6, 4.2)
    patch = site.canvas.patch(frame, 1.4 * radius, 1.4 * radius)
    if patch is None:
        return
    distance = np.hypot(patch.u_HW, 1.25 * patch.v_HW) / radius + 0.10 * site.textures.cut("stain", patch)
    site.canvas.lay(patch, distance < 1.08, surface(site, patch, "soil"), label="clutter")
    ripple = 1.0 + 0.06 * site.textures.cut("stain", patch) + 0.03 * site.textures.cut("grain", patch)
    water = np.array((0.25, 0.30, 0.25), np.float32) * ripple[..., None]
    site.canvas.lay(patch, distance < 1.0, water, label="clutter")


def trampoline(site: Site, frame: Frame) -> None:
    """A round trampoline: black cloth, coloured rim, 0.9 m above the lawn."""
    radius = site.rng.uniform(1.2, 1.9)
    patch = site.canvas.patch(frame, radius, radius)
    if patch is None:
        return
    distance = np.hypot(patch.u_HW, patch.v_HW)
    site.canvas.lay(patch, distance < radius, (0.18, 0.33, 0.52), label="clutter", height=0.88)
    site.canvas.lay(patch, distance < radius - 0.3, (0.16, 0.16, 0.17), label="clutter", height=0.9)


def bins(site: Site, frame: Frame) -> None:
    """A row of refuse bins."""
    lids: tuple[Colour, ...] = ((0.20, 0.21, 0.22), (0.24, 0.34, 0.55), (0.68, 0.58, 0.16), (0.35, 0.26, 0.20))
    wide = site.rng.random() < 0.5  # large ones on wheels
    half_u, half_v = (0.68, 0.54) if wide else (0.3, 0.36)
    for i in range(site.rng.integers(2, 5)):
        place = frame.at((i - 1) * (2 * half_u + 0.12), site.rng.normal(0, 0.05), site.rng.normal(0, 0.05))
        box(site, place, half_u, half_v, 1.2, lids[site.rng.integers(len(lids))], label="clutter")


def stack(site: Site, frame: Frame) -> None:
    """Pallets, planks or pipes, or a covered stack."""
    rng = site.rng
    half_u, half_v = rng.uniform(1.0, 2.2), rng.uniform(0.6, 1.2)
    patch = site.canvas.patch(frame, half_u, half_v)
    if patch is None:
        return
    paint = np.array(((0.62, 0.52, 0.38), (0.30, 0.38, 0.34), (0.55, 0.57, 0.60))[rng.integers(3)], np.float32)
    planks = 1.0 + 0.14 * np.sign(np.sin(patch.v_HW * 2 * np.pi / 0.24)) + 0.08 * site.textures.cut("mottle", patch)
    inside = (np.abs(patch.u_HW) < half_u) & (np.abs(patch.v_HW) < half_v)
    site.canvas.lay(patch, inside, paint * planks[..., None], label="clutter", height=rng.uniform(0.4, 1.7))


def _rounded(patch: Patch, half_u: float, half_v: float, corner: float) -> np.ndarray:
    """Distance to the outline of a rounded rectangle, metres, negative inside."""
    out_u, out_v = np.abs(patch.u_HW) - half_u + corner, np.abs(patch.v_HW) - half_v + corner
    return np.hypot(np.maximum(out_u, 0), np.maximum(out_v, 0)) + np.minimum(np.maximum(out_u, out_v), 0) - corner


@dataclass(frozen=True, slots=True)
class Thing:
    """A kind of clutter, and the free room that it needs: half its length along `u`, half its width along `v`."""

    paint: Callable[[Site, Frame], None]
    half_u_m: float
    half_v_m: float


THINGS = {
    "container": Thing(container, 3.1, 1.3),
    "skip": Thing(skip, 1.8, 1.0),
    "pile": Thing(pile, 2.2, 1.6),
    "pool": Thing(pool, 3.3, 2.0),
    "pond": Thing(pond, 3.6, 2.9),
    "trampoline": Thing(trampoline, 1.8, 1.8),
    "bins": Thing(bins, 1.8, 0.6),
    "stack": Thing(stack, 1.9, 1.0),
}
