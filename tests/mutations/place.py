"""Mutators of where a file lies: reference system and transform. They return the kinds they touched."""

from __future__ import annotations

import rasterio
from numpy.random import Generator
from rasterio import Affine

from tests.mutations.victim import KINDS, Victim, any_kind, rewrite


def reference_system(rng: Generator, victim: Victim) -> set[str]:
    kinds = KINDS if rng.random() < 0.3 else (any_kind(rng),)
    crs = str(rng.choice(["EPSG:32631", "EPSG:32733", "EPSG:4326", "EPSG:25833", "EPSG:3857"]))
    for kind in kinds:
        rewrite(victim.paths[kind], crs=crs)
    return set(KINDS) if "image" in kinds else set(kinds)


def shifted(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)
    with rasterio.open(victim.paths[kind]) as file:
        transform = file.transform
    px = float(10 ** rng.uniform(0, 6)) * float(rng.choice([-1, 1]))
    rewrite(victim.paths[kind], transform=transform @ Affine.translation(px, px / 3))
    return set(KINDS) if kind == "image" else {kind}


def distorted(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)
    with rasterio.open(victim.paths[kind]) as file:
        transform = file.transform
    ways = (
        Affine.scale(2),
        Affine.scale(1e-9),
        Affine.scale(1e12),
        Affine.scale(1, -1),
        Affine.rotation(30),
        Affine(0, 1, 0, 0, 1, 0),
        Affine(1, 1, 0, 1, 1, 0),
        Affine.translation(float("nan"), 0),
        Affine.translation(1e300, 0),
    )
    rewrite(victim.paths[kind], transform=transform @ ways[int(rng.integers(len(ways)))])
    return set(KINDS) if kind == "image" else {kind}
