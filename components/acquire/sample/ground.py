"""Streets: carriageways, kerbs, pavements, parked cars, markings, manholes and repairs."""

from __future__ import annotations

import numpy as np

from components.acquire.sample.canvas import LABELS, Frame, Patch, Plane
from components.acquire.sample.cars import LENGTH_M, WIDTH_M, car
from components.acquire.sample.foliage import crown
from components.acquire.sample.layout import Streets
from components.acquire.sample.materials import PAVED, Site, surface

_MARKING = (0.78, 0.78, 0.76)
_YARD_WEIGHTS = (0.22, 0.06, 0.18, 0.18, 0.14, 0.14, 0.08)  # of PAVED, on the ground


def paint_streets(site: Site, streets: Streets) -> None:
    """Paint all streets of the canvas and park cars along them."""
    reach = site.canvas.reach_m
    patch = site.canvas.patch(streets.town, 1.5 * reach, 1.5 * reach)
    if patch is None:
        return
    rng = site.rng
    ground = str(rng.choice(("lawn", "meadow")))
    site.canvas.lay(patch, np.ones(patch.u_HW.shape, bool), surface(site, patch, ground), label="low_vegetation")
    main, cross = streets.from_kerbs(patch)
    bent = Patch(patch.rows, patch.cols, patch.u_HW, patch.v_HW - streets.bend(patch.u_HW))
    kerb = rounded_union(main, cross, 4.0)
    pavement = surface(site, bent, str(rng.choice(("slabs", "setts", "clinker", "slabs"))))
    site.canvas.lay(patch, kerb < streets.pavement, pavement, label="impervious")
    roadway = surface(site, bent, str(rng.choice(("asphalt", "asphalt", "asphalt", "tar", "setts", "concrete"))))
    site.canvas.lay(patch, kerb < 0, roadway, label="impervious")
    lane = (main > -2.1) & (main < 0) & (bent.v_HW > streets.main_q) & (cross > 6.0)
    site.canvas.lay(
        patch, lane, surface(site, bent, str(rng.choice(("setts", "clinker", "asphalt")))), label="impervious"
    )
    site.canvas.lay(patch, (kerb > 0) & (kerb < 0.15), (0.64, 0.63, 0.60), label="impervious")
    if rng.random() < 0.6:
        dashed = (np.abs(main + streets.main_half + 1.05) < 0.07) & (patch.u_HW % 6 < 3) & (cross > 5.0)
        site.canvas.lay(patch, dashed & (bent.v_HW < streets.main_q), _MARKING, label="impervious")
    if rng.random() < 0.35:
        zebra = (cross > 2.0) & (cross < 5.0) & (main < -0.2) & (bent.v_HW % 1.0 < 0.5)
        site.canvas.lay(patch, zebra, _MARKING, label="impervious")
    _repairs(site, streets)
    _parked(site, streets)
    _street_trees(site, streets)


def rounded_union(first: Plane, second: Plane, radius_m: float) -> Plane:
    """Distance to the union of two shapes, its inner corners rounded; all three `[h, W]`, metres."""
    mix = np.clip(0.5 + 0.5 * (second - first) / radius_m, 0.0, 1.0)
    union: Plane = second + (first - second) * mix - radius_m * mix * (1.0 - mix)
    return union


def _repairs(site: Site, streets: Streets) -> None:
    """Patches of newer asphalt, and manhole covers."""
    rng, reach = site.rng, site.canvas.reach_m
    for _ in range(int(reach / 4)):
        p, off = rng.uniform(-1.4, 1.4) * reach, rng.uniform(-0.8, 0.5) * streets.main_half
        manhole(site, streets.place(p, streets.main_q + off))
    for _ in range(int(reach / 9)):
        p, off = rng.uniform(-1.4, 1.4) * reach, rng.uniform(-0.6, 0.6) * streets.main_half
        paved_patch(site, streets.place(p, streets.main_q + off), *rng.uniform(0.4, 2.0, 2))


def manhole(site: Site, frame: Frame) -> None:
    """A round cover in the existing paving."""
    patch = site.canvas.patch(frame, 0.4, 0.4)
    if patch is not None:
        distance = np.hypot(patch.u_HW, patch.v_HW)
        site.canvas.lay(patch, distance < 0.36, (0.50, 0.49, 0.47), label=None)
        site.canvas.lay(patch, distance < 0.29, (0.30, 0.29, 0.28), label=None)


def paved_patch(site: Site, frame: Frame, half_u_m: float, half_v_m: float) -> None:
    """A repaved rectangle."""
    patch = site.canvas.patch(frame, half_u_m, half_v_m)
    if patch is not None:
        edge = np.minimum(half_u_m - np.abs(patch.u_HW), half_v_m - np.abs(patch.v_HW))
        site.canvas.lay(patch, edge > 0, surface(site, patch, "asphalt") * 0.93, label=None)
        site.canvas.lay(patch, (edge > 0) & (edge < 0.07), (0.27, 0.27, 0.27), label=None)


def _parked(site: Site, streets: Streets) -> None:
    """Cars in the parking lane, and a few moving ones."""
    rng, reach = site.rng, site.canvas.reach_m
    p = -1.5 * reach
    while p < 1.5 * reach:
        p += LENGTH_M + rng.uniform(0.6, 1.6)
        if rng.random() < 0.42:
            q = streets.main_q + streets.main_half - 1.05 + rng.normal(0, 0.08)
            park(site, streets.place(p, q, rng.normal(0, 0.02)))
        if rng.random() < 0.05:
            park(site, streets.place(p, streets.main_q - 0.45 * streets.main_half))
    for _ in range(2):
        park(site, streets.town.at(streets.cross_p + 0.4 * streets.cross_half, rng.uniform(-1, 1) * reach, np.pi / 2))


def _street_trees(site: Site, streets: Streets) -> None:
    """A row of trees on one pavement, with gaps."""
    rng, reach = site.rng, site.canvas.reach_m
    q = streets.main_q - streets.main_half - streets.pavement + 0.6
    for p in np.arange(-1.5 * reach, 1.5 * reach, rng.uniform(7.0, 11.0)):
        radius = rng.uniform(1.7, 3.0)
        place = streets.place(float(p) + rng.normal(0, 0.4), q)
        if rng.random() < 0.7 and site.canvas.is_free(place, 0.3, 0.3, on=("impervious",)):
            crown(site, place, radius, 2.6 + 1.8 * radius)


def park(site: Site, frame: Frame) -> None:
    """A car on free paving."""
    if site.canvas.is_free(frame, LENGTH_M / 2, WIDTH_M / 2, on=("impervious",)):
        car(site, frame)


def stripe(site: Site, frame: Frame, half_u_m: float, half_v_m: float) -> None:
    """A white marking on paving."""
    patch = site.canvas.patch(frame, half_u_m, half_v_m)
    if patch is not None:
        paved = site.canvas.label_HW[patch.window] == LABELS["impervious"]
        inside = (np.abs(patch.u_HW) < half_u_m) & (np.abs(patch.v_HW) < half_v_m)
        site.canvas.lay(patch, inside & paved, _MARKING, label="impervious")


def pave(site: Site, frame: Frame, half_u_m: float, half_v_m: float, material: str | None = None) -> None:
    """A paved rectangle on the ground, in any material that flat roofs have too."""
    name = material or str(site.rng.choice(PAVED, p=_YARD_WEIGHTS))
    _ground(site, frame, half_u_m, half_v_m, name, "impervious")


def grass(site: Site, frame: Frame, half_u_m: float, half_v_m: float, material: str) -> None:
    """A rectangle of lawn, meadow or soil: low vegetation."""
    _ground(site, frame, half_u_m, half_v_m, material, "low_vegetation")


def _ground(site: Site, frame: Frame, half_u_m: float, half_v_m: float, material: str, label: str) -> None:
    """A rectangle of one material; water of a neighbouring lot stays."""
    patch = site.canvas.patch(frame, half_u_m, half_v_m)
    if patch is not None:
        dry = site.canvas.label_HW[patch.window] != LABELS["clutter"]
        inside = (np.abs(patch.u_HW) <= half_u_m) & (np.abs(patch.v_HW) <= half_v_m)
        site.canvas.lay(patch, inside & dry, surface(site, patch, material), label=label)
