"""Foliage: crowns, conifers, shrubs, hedges.

All are heaps of lumps (half spheres with their own tones) on a base, so light and shadow look as on leaves.
Crowns and shrubs differ only in size: the height decides whether a heap is a tree or low vegetation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.acquire.sample.canvas import GSD_M, Frame, Patch, Plane
from components.acquire.sample.materials import GREENS, Site, blend

Row = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Lumps:
    """Half spheres: centres `[N]` in the axes of a patch, radii and heights of their centres, metres."""

    u_N: Row
    v_N: Row
    radius_N: Row
    base_N: Row


def crown(site: Site, frame: Frame, radius_m: float, height_m: float) -> None:
    """A broad-leaved crown: a lumpy dome with a wavy outline. Below 2 m it is a shrub: low vegetation."""
    patch = site.canvas.patch(frame, 1.35 * radius_m, 1.35 * radius_m)
    if patch is None:
        return
    rng, phases = site.rng, site.rng.uniform(0, 2 * np.pi, 3)

    def outline(angle: Plane) -> Plane:
        wave = sum(0.07 * np.sin(n * angle + phase) for n, phase in zip((2, 3, 5), phases, strict=True))
        return (radius_m * (1.0 + wave)).astype(np.float32)

    def dome(distance: Plane, angle: Plane) -> Plane:
        return height_m * (0.45 + 0.5 * np.sqrt(np.clip(1.0 - (distance / outline(angle)) ** 2, 0.0, 1.0)))

    size = 0.22 + 0.085 * radius_m
    count = int(5.0 * (radius_m / size) ** 2)
    angle_N = rng.uniform(0, 2 * np.pi, count)
    distance_N = 0.97 * outline(angle_N) * np.sqrt(rng.uniform(0, 1, count))
    radius_N = size * rng.uniform(0.55, 1.25, count)
    base_N = dome(distance_N, angle_N) * rng.uniform(0.88, 1.0, count) - 0.4 * radius_N
    lumps = Lumps(distance_N * np.cos(angle_N), distance_N * np.sin(angle_N), radius_N, base_N)
    distance, angle = np.hypot(patch.u_HW, patch.v_HW), np.arctan2(patch.v_HW, patch.u_HW)
    floor = np.where(distance < 0.88 * outline(angle), 0.72 * dome(distance, angle), 0.0)
    _heap(site, patch, floor, lumps, "tree" if height_m > 2.0 else "low_vegetation")


def conifer(site: Site, frame: Frame, radius_m: float, height_m: float) -> None:
    """A cone with whorls of branches."""
    patch = site.canvas.patch(frame, 1.2 * radius_m, 1.2 * radius_m)
    if patch is None:
        return
    rng = site.rng
    count = int(60 * radius_m**1.5)
    share_N = np.sqrt(rng.uniform(0, 1, count))
    angle_N = np.round(rng.uniform(0, 13, count)) / 13 * 2 * np.pi + rng.normal(0, 0.12, count) + 5.0 * share_N
    distance_N = 0.97 * radius_m * share_N
    radius_N = rng.uniform(0.16, 0.34, count)
    base_N = height_m * (1.0 - 0.75 * share_N) - 0.4 * radius_N
    lumps = Lumps(distance_N * np.cos(angle_N), distance_N * np.sin(angle_N), radius_N, base_N)
    share = np.hypot(patch.u_HW, patch.v_HW) / radius_m
    floor = np.where(share < 0.85, height_m * (0.92 - 0.75 * share), 0.0)
    _heap(site, patch, floor, lumps, "tree", green=3)


def hedge(site: Site, frame: Frame, length_m: float, width_m: float, height_m: float) -> None:
    """A clipped hedge along `u`: low vegetation."""
    patch = site.canvas.patch(frame, length_m / 2 + 0.3, width_m / 2 + 0.3)
    if patch is None:
        return
    rng, count = site.rng, int(14 * length_m * width_m)
    radius_N = rng.uniform(0.15, 0.32, count)
    u_N = rng.uniform(-0.5, 0.5, count) * length_m
    v_N = rng.uniform(-0.5, 0.5, count) * (width_m - 0.2)
    lumps = Lumps(u_N, v_N, radius_N, height_m * rng.uniform(0.88, 1.0, count) - radius_N)
    inside = (np.abs(patch.u_HW) < length_m / 2) & (np.abs(patch.v_HW) < width_m / 2)
    _heap(site, patch, np.where(inside, 0.85 * height_m, 0.0).astype(np.float32), lumps, "low_vegetation")


def _heap(site: Site, patch: Patch, floor_HW: Plane, lumps: Lumps, label: str, green: int | None = None) -> None:
    """Pile the lumps onto a floor (0: nothing there), give every lump its own tone, lay the heap on the canvas."""
    height_HW = floor_HW.astype(np.float32)
    tone_HW = np.full(height_HW.shape, 0.85, np.float32)
    tones_N = np.exp(site.rng.normal(0.0, 0.10, len(lumps.u_N)))
    rows_N, cols_N = _pixels(site, patch, lumps)
    for row, col, radius, base, tone in zip(rows_N, cols_N, lumps.radius_N, lumps.base_N, tones_N, strict=True):
        reach = radius / GSD_M
        rows, cols = _clip(row, reach, height_HW.shape[0]), _clip(col, reach, height_HW.shape[1])
        if rows.start >= rows.stop or cols.start >= cols.stop:
            continue
        down = (np.arange(rows.start, rows.stop, dtype=np.float32) - row) / reach
        right = (np.arange(cols.start, cols.stop, dtype=np.float32) - col) / reach
        cap = 1.0 - down[:, None] ** 2 - right[None, :] ** 2
        top = np.where(cap > 0, base + radius * np.sqrt(np.maximum(cap, 0.0)), 0.0)
        wins = top > height_HW[rows, cols]
        height_HW[rows, cols][wins] = top[wins]
        tone_HW[rows, cols][wins] = tone
    covered = height_HW > 0
    leaves = 0.05 * site.textures.cut("grain", patch)
    dark, light = GREENS[site.rng.integers(len(GREENS)) if green is None else green]
    value = tone_HW * float(np.exp(site.rng.normal(0.0, 0.08))) * (1.0 + 0.12 * site.textures.cut("grain", patch))
    colour = blend(site, patch, dark, light) * value[..., None]
    site.canvas.lay(patch, covered, colour, label=label, height=height_HW + leaves * covered)


def _pixels(site: Site, patch: Patch, lumps: Lumps) -> tuple[Row, Row]:
    """Rows and columns of the lumps in the window; the patch's axes are straight, so three pixels define them."""
    u, v = patch.u_HW, patch.v_HW
    cos, sin = (u[0, 1] - u[0, 0]) / GSD_M, (u[1, 0] - u[0, 0]) / GSD_M
    du, dv = lumps.u_N - u[0, 0], lumps.v_N - v[0, 0]
    return (du * sin + dv * cos) / GSD_M, (du * cos - dv * sin) / GSD_M


def _clip(centre: float, reach: float, end: int) -> slice:
    return slice(max(int(np.ceil(centre - reach)), 0), min(int(np.floor(centre + reach)) + 1, end))
