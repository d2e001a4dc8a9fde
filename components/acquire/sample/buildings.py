"""Buildings: pitched roofs with tiles, chimneys and windows; flat roofs in the materials of streets and yards."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from components.acquire.sample.canvas import Frame, Patch, Plane
from components.acquire.sample.materials import PAVED, PITCHED, Site, surface

_FLAT_WEIGHTS = (0.12, 0.30, 0.12, 0.08, 0.04, 0.04, 0.30)  # of PAVED, on roofs
_METAL = (0.62, 0.63, 0.63)
_GLASS = (0.24, 0.29, 0.34)


@dataclass(frozen=True, slots=True)
class Body:
    """A rectangular building: frame, half its length along `u`, half its depth along `v`, height of its eaves."""

    frame: Frame
    half_u_m: float
    half_v_m: float
    eaves_m: float


def pitched_house(site: Site, body: Body) -> None:
    """A house with a gable or hip roof, often with a wing, in one kind of tiles."""
    rng = site.rng
    tiles, tone = str(rng.choice(PITCHED)), float(np.exp(rng.normal(0.0, 0.10)))
    rise, hip = math.tan(math.radians(rng.uniform(24, 46))), bool(rng.random() < 0.4)
    _pitched_roof(site, body, rise, hip, tiles, tone)
    if rng.random() < 0.45:
        side = float(rng.choice((-1.0, 1.0)))
        depth = rng.uniform(0.55, 0.8) * body.half_v_m
        middle = body.frame.at(rng.uniform(-0.4, 0.4) * body.half_u_m, side * body.half_v_m * 0.8, math.pi / 2)
        _pitched_roof(site, Body(middle, body.half_v_m, depth, body.eaves_m), rise, hip, tiles, tone)
    ridge_m = body.eaves_m + rise * body.half_v_m
    for _ in range(rng.integers(1, 3)):
        place = body.frame.at(rng.uniform(-0.7, 0.7) * body.half_u_m, rng.normal(0, 0.25) * body.half_v_m)
        box(site, place, 0.35, 0.28, ridge_m + 0.5, (0.47, 0.37, 0.33))
        box(site, place, 0.18, 0.12, ridge_m + 0.52, (0.12, 0.12, 0.12))
    _roof_windows(site, body, rise)


def _pitched_roof(site: Site, body: Body, rise: float, hip: bool, tiles: str, tone: float) -> None:
    half_u, half_v = body.half_u_m, body.half_v_m
    patch = site.canvas.patch(body.frame, half_u + 0.3, half_v + 0.3)
    if patch is None:
        return
    to_side, to_end = half_v - np.abs(patch.v_HW), half_u - np.abs(patch.u_HW)
    from_eaves = np.minimum(to_side, to_end) if hip else to_side
    height = body.eaves_m + rise * from_eaves
    at_end = (to_end < to_side) if hip else np.zeros(height.shape, bool)
    stretch = math.hypot(1.0, rise)  # tiles lie on the slope, the picture shows its projection
    axes = Patch(
        patch.rows, patch.cols, np.where(at_end, patch.v_HW, patch.u_HW), (stretch * from_eaves).astype(np.float32)
    )
    colour = surface(site, axes, tiles, tone=tone)
    ridge = (half_v - to_side < 0.13) & (to_end > (half_v if hip else 0.0))
    arris = hip & (np.abs(to_side - to_end) < 0.10)
    colour[ridge | arris] *= 1.10
    colour[from_eaves < 0.13] = _METAL  # gutter
    colour[(to_end < 0.12) & ~at_end] *= 0.8  # verge
    site.canvas.lay(patch, (to_side > 0) & (to_end > 0), colour, label="building", height=height)


def _roof_windows(site: Site, body: Body, rise: float) -> None:
    """Roof windows in a row, or solar panels over most of one side, or neither."""
    rng, side = site.rng, float(site.rng.choice((-1.0, 1.0)))
    kind = rng.choice(("none", "windows", "solar"), p=(0.3, 0.5, 0.2))
    if kind == "none":
        return
    patch = site.canvas.patch(body.frame, body.half_u_m, body.half_v_m)
    if patch is None:
        return
    height = body.eaves_m + rise * (body.half_v_m - np.abs(patch.v_HW)) + 0.06
    v = side * patch.v_HW
    if kind == "windows":
        step, low, high = rng.uniform(1.8, 3.0), 0.4 * body.half_v_m, 0.4 * body.half_v_m + 0.95
        along = np.abs((patch.u_HW + 20 * step) % step - step / 2)
        inside = (v > low) & (v < high) & (np.abs(patch.u_HW) < 0.62 * body.half_u_m)
        site.canvas.lay(patch, inside & (along < 0.47), _METAL, label="building", height=height)
        pane = (along < 0.38) & (v > low + 0.1) & (v < high - 0.1)
        site.canvas.lay(patch, inside & pane, _GLASS, label="building", height=height)
    else:
        extent = rng.uniform(0.4, 0.75) * body.half_u_m
        inside = (v > 0.15 * body.half_v_m) & (v < 0.85 * body.half_v_m) & (np.abs(patch.u_HW) < extent)
        frame = (patch.u_HW % 1.05 < 0.07) | (patch.v_HW % 1.4 < 0.07)
        site.canvas.lay(patch, inside & frame, (0.45, 0.47, 0.50), label="building", height=height)
        site.canvas.lay(patch, inside & ~frame, (0.19, 0.21, 0.29), label="building", height=height)


def flat_building(site: Site, body: Body) -> None:
    """A flat roof: tar, gravel, slabs, concrete or any other paving, sometimes green, with few objects on it."""
    rng = site.rng
    patch = site.canvas.patch(body.frame, body.half_u_m + 0.2, body.half_v_m + 0.2)
    if patch is None:
        return
    material = "sedum" if rng.random() < 0.05 else str(rng.choice(PAVED, p=_FLAT_WEIGHTS))
    colour = surface(site, patch, material)
    edge = np.minimum(body.half_u_m - np.abs(patch.u_HW), body.half_v_m - np.abs(patch.v_HW))
    height = np.full(edge.shape, body.eaves_m, np.float32)
    if rng.random() < 0.55:  # parapet with a metal cover
        rim = edge < 0.25
        colour[rim] = np.array(_METAL) * rng.uniform(0.7, 1.1)
        site.canvas.lay(patch, (edge > 0) & rim, colour, label="building", height=body.eaves_m + rng.uniform(0.15, 0.4))
    site.canvas.lay(patch, edge > 0, colour, label="building", height=height)
    if material != "sedum" and body.half_u_m * body.half_v_m > 30 and rng.random() < 0.3:  # a parking deck's bays
        bays = (edge > 0.6) & (patch.u_HW % 2.5 < 0.1) & (np.abs(patch.v_HW) > 0.3 * body.half_v_m)
        site.canvas.lay(patch, bays, (0.74, 0.74, 0.72), label="building", height=body.eaves_m + 0.01)
    _on_the_roof(site, body)


def _on_the_roof(site: Site, body: Body) -> None:
    """Vents and hatches, sometimes a row of skylights."""
    rng, area = site.rng, 4 * body.half_u_m * body.half_v_m
    top = body.eaves_m
    if area > 90 and rng.random() < 0.35:
        for u in np.arange(-0.6, 0.7, 0.4) * body.half_u_m:
            box(site, body.frame.at(float(u), 0.0), 0.6, 0.6, top + 0.35, (0.68, 0.72, 0.74))
    for _ in range(rng.poisson(area / 60)):
        place = body.frame.at(*(rng.uniform(-0.8, 0.8, 2) * (body.half_u_m, body.half_v_m)))
        half_u, half_v = rng.uniform(0.12, 0.6, 2)
        box(site, place, half_u, half_v, top + rng.uniform(0.2, 0.9), np.full(3, rng.uniform(0.4, 0.75)))


def box(site: Site, frame: Frame, half_u_m: float, half_v_m: float, top_m: float, colour: Plane | tuple[float, ...],
        label: str = "building") -> None:  # fmt: skip
    """A plain box with a level top `top_m` above the ground."""
    patch = site.canvas.patch(frame, half_u_m, half_v_m)
    if patch is None:
        return
    mask = (np.abs(patch.u_HW) < half_u_m) & (np.abs(patch.v_HW) < half_v_m)
    site.canvas.lay(patch, mask, np.asarray(colour, np.float32), label=label, height=float(top_m))
