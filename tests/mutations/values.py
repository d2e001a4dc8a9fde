"""Mutators of pixels: colours of no class, heights that are none, black. They return the kinds they touched."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from tests.mutations.victim import LABELS, Victim, any_kind, rewrite


def colours(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng, LABELS)
    share = float(rng.uniform(0.05, 1))

    def change(picture_BHW: Any) -> Any:
        odd_HW = rng.random(picture_BHW.shape[1:]) < share
        picture_BHW[:, odd_HW] = np.array([200, 10, 200], np.uint8)[:, None]
        return picture_BHW

    rewrite(victim.paths[kind], change)
    return {kind}


def legend(rng: Generator, victim: Victim) -> set[str]:
    """Class numbers for colours, colours in another order of bands, all of one colour, or an image."""
    kind = any_kind(rng, LABELS)
    ways = (
        lambda picture_BHW: picture_BHW % 7,
        lambda picture_BHW: picture_BHW[::-1],
        np.zeros_like,
        lambda picture_BHW: rng.integers(0, 256, picture_BHW.shape, dtype=np.uint8),
        lambda picture_BHW: picture_BHW // 2,
        lambda picture_BHW: 255 - picture_BHW,
    )
    rewrite(victim.paths[kind], ways[int(rng.integers(len(ways)))])
    return {kind}


def no_heights(rng: Generator, victim: Victim) -> set[str]:
    value = float(rng.choice([np.nan, np.inf, -np.inf, -9999, 0, 3.4e38, 1e30]))
    rewrite(victim.paths["dsm"], lambda dsm_BHW: np.full_like(dsm_BHW, value))
    return {"dsm"}


def unit(rng: Generator, victim: Victim) -> set[str]:
    factor = float(rng.choice([10, 100, 1000, 0.001, -1, 1e6]))
    rewrite(victim.paths["dsm"], lambda dsm_BHW: (dsm_BHW * factor).astype(np.float32))
    return {"dsm"}


def wild_heights(rng: Generator, victim: Victim) -> set[str]:
    def change(dsm_BHW: Any) -> Any:
        wild_BHW = rng.random(dsm_BHW.shape) < rng.uniform(0.001, 0.7)
        wild = np.array([np.nan, np.inf, -np.inf, 1e38, -1e38, -32768, 8000, -400])
        return np.where(wild_BHW, rng.choice(wild, dsm_BHW.shape), dsm_BHW).astype(np.float32)

    rewrite(victim.paths["dsm"], change, nodata=float(rng.choice([np.nan, -32768])))
    return {"dsm"}


def black(rng: Generator, victim: Victim) -> set[str]:
    rows = int(rng.integers(2, 33))

    def change(image_BHW: Any) -> Any:
        image_BHW[:, :rows] = 0
        return image_BHW

    rewrite(victim.paths["image"], change, nodata=0 if rng.random() < 0.5 else None)
    return {"image"}
