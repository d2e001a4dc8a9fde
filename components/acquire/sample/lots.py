"""What stands on a lot: one painter per use, from the ground up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from components.acquire.sample import clutter
from components.acquire.sample.buildings import Body, flat_building, pitched_house
from components.acquire.sample.canvas import Frame
from components.acquire.sample.foliage import conifer, crown, hedge
from components.acquire.sample.ground import grass, manhole, park, pave, paved_patch, stripe
from components.acquire.sample.layout import Lot
from components.acquire.sample.materials import Site

GREEN, HARD, ANY = ("low_vegetation",), ("impervious",), ("low_vegetation", "impervious")


def paint_lot(site: Site, lot: Lot) -> None:
    """Paint one lot: its ground, then what its use puts on it."""
    {"house": _house, "block": _block, "works": _works, "parking": _parking, "court": _court, "park": _common}[lot.use](
        site, lot
    )


def _house(site: Site, lot: Lot) -> None:
    """A house with a pitched roof in a garden: path, drive and garage, terrace, hedges, trees and playthings."""
    rng, half_w, half_d = site.rng, lot.width / 2, lot.depth / 2
    grass(site, lot.frame, half_w + 0.1, half_d + 0.1, str(rng.choice(("lawn", "lawn", "meadow"))))
    half_u, half_v = min(rng.uniform(4.6, 6.8), half_w - 2.2), rng.uniform(4.0, 5.4)
    front = rng.uniform(2.0, 4.5)
    side = float(rng.choice((-1.0, 1.0)))
    centre = lot.frame.at(-side * (half_w - half_u - rng.uniform(0.8, 1.6)), -half_d + front + half_v)
    turn = rng.normal(0, 0.05) if rng.random() < 0.75 else rng.uniform(-0.25, 0.25)
    drive = lot.frame.at(side * (half_w - 1.7), -half_d + 5.0)
    pave(site, drive, 1.5, 5.1)
    pave(site, centre.at(0, -half_v - front / 2), 0.7, front / 2 + 0.4, "slabs")
    pave(site, centre.at(rng.uniform(-0.4, 0.4) * half_u, half_v + 1.5, turn), rng.uniform(2, 3.4), 1.9)
    roof = Frame(centre.x_m, centre.y_m, centre.angle + turn)
    if rng.random() < 0.5 and half_v > 4.2:
        roof, half_u, half_v = roof.at(0, 0, math.pi / 2), half_v, half_u
    pitched_house(site, Body(roof, half_u, half_v, rng.uniform(3.4, 6.2)))
    if rng.random() < 0.7:
        flat_building(site, Body(drive.at(0, 5.5), 1.65, 3.1, rng.uniform(2.5, 3.0)))
    if rng.random() < 0.6:
        park(site, drive.at(0, rng.uniform(-2.0, 0.5), math.pi / 2))
    if rng.random() < 0.35:
        grass(site, lot.frame.at(rng.uniform(-0.5, 0.5) * half_w, 0.72 * half_d), 1.9, 1.4, "soil")
    _hedges(site, lot)
    garden = ("pool", "trampoline", "bins", "stack", "pile", "stack", "trampoline", "pile")
    _scatter(site, lot, _some(site, garden, 3, 7), GREEN)
    _trees(site, lot, 18, (2.0, 3.8), GREEN)
    _shrubs(site, lot, 9)


def _block(site: Site, lot: Lot) -> None:
    """A large building, mostly with a flat roof, in green with a paved yard."""
    rng, half_w, half_d = site.rng, lot.width / 2, lot.depth / 2
    grass(site, lot.frame, half_w + 0.1, half_d + 0.1, str(rng.choice(("lawn", "meadow"))))
    yard, side = rng.uniform(0.15, 0.75) * half_w, float(rng.choice((-1.0, 1.0)))
    pave(site, lot.frame.at(side * (half_w - yard), 0), yard, half_d * rng.uniform(0.8, 1.0))
    half_u, half_v = half_w * rng.uniform(0.86, 1.0), half_d * rng.uniform(0.42, 0.56)
    front = lot.frame.at(0, -half_d + half_v + rng.uniform(0.3, 1.6), rng.normal(0, 0.015))
    body = Body(front, half_u, half_v, rng.uniform(4.5, 10.0))
    if rng.random() < 0.35:
        pitched_house(site, body)
    else:
        _flat_block(site, body, -side)
    for _ in range(3):
        u, v = rng.uniform(-1, 1) * half_w, rng.uniform(0.2, 0.8) * half_d
        park(site, lot.frame.at(u, v, rng.choice((0, math.pi / 2))))
    _scatter(site, lot, _some(site, ("bins", "skip", "stack", "container"), 1, 5), HARD)
    _trees(site, lot, 12, (2.0, 3.6), ANY)
    _shrubs(site, lot, 8)


def _flat_block(site: Site, body: Body, side: float) -> None:
    """A flat roof, sometimes with a lower wing behind it on one side, or with a top floor set back from the edges."""
    rng, half_u, half_v = site.rng, body.half_u_m, body.half_v_m
    flat_building(site, body)
    if rng.random() < 0.55:
        wing = body.frame.at(side * 0.55 * half_u, 1.5 * half_v)
        flat_building(site, Body(wing, 0.42 * half_u, half_v, body.eaves_m * rng.uniform(0.45, 1.0)))
    if rng.random() < 0.3:
        flat_building(site, Body(body.frame, 0.6 * half_u, 0.6 * half_v, body.eaves_m + 2.8))


def _works(site: Site, lot: Lot) -> None:
    """A low hall and a storage yard."""
    rng, half_w, half_d = site.rng, lot.width / 2, lot.depth / 2
    grass(site, lot.frame, half_w + 0.1, half_d + 0.1, "meadow")
    pave(site, lot.frame, half_w - rng.uniform(0.0, 2.0), half_d - rng.uniform(0.0, 1.5))
    half_v = half_d * rng.uniform(0.36, 0.46)
    end = float(rng.choice((-1.0, 1.0)))
    hall = lot.frame.at(0, end * (half_d - half_v - 0.5), rng.normal(0, 0.03))
    flat_building(site, Body(hall, half_w * rng.uniform(0.85, 0.97), half_v, rng.uniform(2.9, 5.5)))
    _scatter(
        site, lot, _some(site, ("container", "pile", "container", "stack", "skip", "pile", "bins") * 2, 7, 12), HARD
    )
    for _ in range(4):
        u, v = rng.uniform(-0.85, 0.85, 2) * (half_w, half_d)
        park(site, lot.frame.at(u, v, rng.choice((0, math.pi / 2))))
    _trees(site, lot, 8, (1.9, 3.2), ANY)


def _parking(site: Site, lot: Lot) -> None:
    """Bays on both sides of an aisle, half of them occupied, trees at the edge."""
    rng, half_w, half_d = site.rng, lot.width / 2, lot.depth / 2
    pave(site, lot.frame, half_w + 0.1, half_d + 0.1, str(rng.choice(("asphalt", "setts", "concrete", "clinker"))))
    grass(site, lot.frame.at(0, half_d - 1.2), half_w, 1.2, "lawn")
    for row in (-0.25, 0.42):
        v = row * lot.depth - 1.0
        for u in np.arange(-half_w + 1.5, half_w - 1.2, 2.5):
            stripe(site, lot.frame.at(float(u) - 1.25, v), 0.06, 2.4)
            if rng.random() < 0.5:
                park(site, lot.frame.at(float(u), v + rng.normal(0, 0.15), math.pi / 2 + rng.normal(0, 0.02)))
    _trees(site, lot, 10, (1.8, 3.0), GREEN)


def _court(site: Site, lot: Lot) -> None:
    """A bare paved court with repaved patches; from above it resembles a roof."""
    rng, half_w, half_d = site.rng, lot.width / 2, lot.depth / 2
    grass(site, lot.frame, half_w + 0.1, half_d + 0.1, "lawn")
    pave(site, lot.frame.at(0, -0.1 * half_d), half_w * rng.uniform(0.75, 0.95), half_d * rng.uniform(0.45, 0.8))
    for _ in range(3):
        manhole(site, lot.frame.at(*(rng.uniform(-0.6, 0.6, 2) * (half_w, half_d))))
    if rng.random() < 0.5:
        paved_patch(site, lot.frame.at(*(rng.uniform(-0.4, 0.4, 2) * (half_w, half_d))), *rng.uniform(0.5, 1.8, 2))
    if rng.random() < 0.5:
        flat_building(site, Body(lot.frame.at(0, half_d - 3.2), half_w * 0.8, 2.7, rng.uniform(2.5, 3.4)))
    _scatter(site, lot, _some(site, ("bins", "stack", "pile"), 0, 4), HARD)
    _trees(site, lot, 12, (1.9, 3.6), GREEN)
    _shrubs(site, lot, 8)


def _common(site: Site, lot: Lot) -> None:
    """Grass with a path, thickets and trees."""
    rng, half_w, half_d = site.rng, lot.width / 2, lot.depth / 2
    grass(site, lot.frame, half_w + 0.1, half_d + 0.1, str(rng.choice(("lawn", "meadow"))))
    if rng.random() < 0.6:
        pave(site, lot.frame.at(rng.uniform(-0.6, 0.6) * half_w, 0, rng.uniform(-0.2, 0.2)), 0.9, half_d, "gravel")
    _scatter(site, lot, _some(site, ("pond",), 0, 2), GREEN)
    _trees(site, lot, 26, (2.2, 4.4), GREEN)
    _shrubs(site, lot, 22)


def _hedges(site: Site, lot: Lot) -> None:
    rng, half_w, half_d = site.rng, lot.width / 2, lot.depth / 2
    height, width = rng.uniform(0.9, 1.9), rng.uniform(0.6, 1.1)
    if rng.random() < 0.6:
        hedge(site, lot.frame.at(0, half_d - width), lot.width - 1.0, width, height)
    if rng.random() < 0.6:
        hedge(site, lot.frame.at(half_w - 0.2, half_d / 2, math.pi / 2), half_d * 0.95, width, height)
    if rng.random() < 0.5:
        hedge(site, lot.frame.at(-0.3 * half_w, -half_d + 0.4), half_w * 0.8, width, min(height, 1.2))


def _trees(site: Site, lot: Lot, tries: int, radii_m: tuple[float, float], on: tuple[str, ...]) -> None:
    rng = site.rng
    for _ in range(tries):
        place, radius = _somewhere(site, lot), rng.uniform(*radii_m)
        if site.canvas.is_free(place, 0.3 * radius, 0.3 * radius, on=on):
            if rng.random() < 0.15:
                conifer(site, place, 0.6 * radius, rng.uniform(5.0, 11.0))
            else:
                crown(site, place, radius, min(2.4 + 2.0 * radius * rng.uniform(0.75, 1.25), 12.0))


def _shrubs(site: Site, lot: Lot, tries: int) -> None:
    rng = site.rng
    for _ in range(tries):
        place, radius = _somewhere(site, lot), rng.uniform(0.4, 1.3)
        if site.canvas.is_free(place, radius, radius, on=GREEN):
            crown(site, place, radius, radius * rng.uniform(0.7, 1.3))


def _some(site: Site, things: Sequence[str], least: int, end: int) -> list[str]:
    """At least `least` and less than `end` of the things, drawn without replacement."""
    return [things[i] for i in site.rng.permutation(len(things))[: site.rng.integers(least, end)]]


def _scatter(site: Site, lot: Lot, things: Sequence[str], on: tuple[str, ...]) -> None:
    """Place each thing at a random free spot of the lot; gives up after a few tries."""
    for name in things:
        thing = clutter.THINGS[name]
        for _ in range(24):
            place = _somewhere(site, lot)
            if site.canvas.is_free(place, thing.half_u_m, thing.half_v_m, on=on):
                thing.paint(site, place)
                break


def _somewhere(site: Site, lot: Lot) -> Frame:
    u, v = site.rng.uniform(-0.47, 0.47, 2) * (lot.width, lot.depth)
    return lot.frame.at(u, v, site.rng.choice((0.0, math.pi / 2)) + site.rng.normal(0, 0.15))
