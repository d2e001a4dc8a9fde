"""Imports of ISPRS files, and what they left in the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

from components.acquire.isprs_files import collect
from components.acquire.journal import JOURNAL
from components.common.data import datasets
from components.common.data.rawtree import RECORD

POTSDAM, VAIHINGEN = datasets.dataset("potsdam"), datasets.dataset("vaihingen")
KINDS = ("image", "dsm", "label", "eroded")


def importing(sources, out, dataset=POTSDAM, exact=False):
    return collect(sources, dataset, out, exact=exact)


def files(folder: Path) -> dict[str, bytes]:
    """Content of every file, the journal's left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != JOURNAL)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def pixels(folder: Path, kind: str, tile: str, dataset=POTSDAM) -> np.ndarray:
    with rasterio.open(folder / dataset.path(kind, tile)) as file:
        return file.read()


def changes(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_ino for path in folder.rglob("*.*") if path.is_file() and path.name != RECORD}
