"""What the mutators of tiles have in common: the files of a tile, and ways to write them anew."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.random import Generator
from rasterio.errors import NotGeoreferencedWarning

KINDS = ("image", "dsm", "label", "eroded")
LABELS = ("label", "eroded")


@dataclass(frozen=True)
class Victim:
    """The files of the tile that is damaged, and of another one."""

    folder: Path
    paths: dict[str, Path]
    others: dict[str, Path]


def rewrite(path: Path, change: Callable[[Any], Any] = lambda pixels_BHW: pixels_BHW, **profile: Any) -> None:
    """Write a TIFF anew with other pixels or another profile; None leaves a key out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            pixels_BHW = np.ascontiguousarray(change(file.read()))
            kept = {"crs": file.crs, "transform": file.transform, "nodata": file.nodata}
        bands, height, width = pixels_BHW.shape
        size = {"count": bands, "height": height, "width": width, "dtype": pixels_BHW.dtype}
        known = {key: value for key, value in (kept | size | profile).items() if value is not None}
        with rasterio.open(path, "w", driver="GTiff", **known) as file:
            file.write(pixels_BHW)


def flipped(content: bytes, rng: Generator, first: int, end: int, bits: int) -> bytes:
    """Content with some bits turned over between two places."""
    changed = bytearray(content)
    for place in rng.integers(first, max(first + 1, min(end, len(changed))), bits):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def any_kind(rng: Generator, among: tuple[str, ...] = KINDS) -> str:
    return str(rng.choice(among))
