"""Mutators of a TIFF that stays one: type, size, bands, exchanged files. They return the kinds they touched."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from tests.mutations.victim import KINDS, Victim, any_kind, rewrite


def pixel_type(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)
    usual = "float32" if kind == "dsm" else "uint8"
    dtype = str(rng.choice([t for t in ("uint8", "uint16", "int16", "int32", "float32", "complex64") if t != usual]))
    rewrite(victim.paths[kind], lambda pixels_BHW: pixels_BHW.astype(dtype), nodata=None)
    return {kind}


def size(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)
    rows, columns = (int(px) for px in rng.integers(0, 24, 2))
    grow = rng.random() < 0.3

    def change(pixels_BHW: Any) -> Any:
        if grow:
            return np.pad(pixels_BHW, ((0, 0), (0, rows + 1), (0, columns)), mode="edge")
        return pixels_BHW[:, rows + 1 :, columns:]

    placed = {} if rng.random() < 0.5 else {"transform": None, "crs": None}
    rewrite(victim.paths[kind], change, **placed)
    return set(KINDS) if kind == "image" else {kind}


def bands(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)

    def change(pixels_BHW: Any) -> Any:
        more = np.concatenate([pixels_BHW, pixels_BHW[:1]])
        return (
            more if len(pixels_BHW) == 1 or rng.random() < 0.5 else pixels_BHW[: int(rng.integers(1, len(pixels_BHW)))]
        )

    rewrite(victim.paths[kind], change)
    return {kind}


def band_order(rng: Generator, victim: Victim) -> set[str]:
    order = [(2, 1, 0), (1, 0, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1)][int(rng.integers(5))]
    rewrite(victim.paths["image"], lambda image_BHW: image_BHW[list(order)])
    return {"image"}


def exchanged(rng: Generator, victim: Victim) -> set[str]:
    one, other = (str(kind) for kind in rng.choice(KINDS, 2, replace=False))
    contents = [victim.paths[kind].read_bytes() for kind in (one, other)]
    victim.paths[one].write_bytes(contents[1])
    victim.paths[other].write_bytes(contents[0])
    return {one, other}


def of_another_tile(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)
    victim.paths[kind].write_bytes(victim.others[kind].read_bytes())
    return set(KINDS) if kind == "image" else {kind}


def gone(rng: Generator, victim: Victim) -> set[str]:
    kind = any_kind(rng)
    victim.paths[kind].unlink()
    how = rng.random()
    if how < 0.4:
        victim.paths[kind].mkdir()
    elif how < 0.7:
        victim.paths[kind].symlink_to(victim.paths[kind])
    return {kind}
