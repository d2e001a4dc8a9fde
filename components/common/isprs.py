"""Typed access to isprs.yaml, its only reader: classes, palette, ground size, band order, file names, named splits."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import yaml

from components.common.errors import ParamsError

IGNORE = 255
"""Label value of a pixel that no loss and no score counts."""

DatasetName = Literal["potsdam", "vaihingen"]
FileKind = Literal["image", "dsm", "label", "eroded"]
Subset = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """One class; its place in the list is its label value."""

    name: str
    title: str
    rgb: tuple[int, int, int]
    in_means: bool  # False: left out of mIoU and mF1 (but counted in OA)


@dataclass(frozen=True, slots=True)
class Dataset:
    """What holds for every tile of a data set."""

    name: DatasetName
    gsd_m: float  # ground size of a pixel, metres
    bands: tuple[str, ...]  # of the image file, in file order
    crs: str  # where the files carry none
    files: dict[FileKind, str]  # kind -> path pattern below the raw folder

    def path(self, kind: FileKind, tile: str) -> str:
        """Path of one file of a tile below the raw folder, under its ISPRS name."""
        if self.name == "vaihingen":
            return self.files[kind].format(n=int(tile))
        row, column = (int(part) for part in tile.split("_"))
        return self.files[kind].format(r=row, c=column)


@dataclass(frozen=True, slots=True)
class Split:
    """Tile ids per subset; disjoint. Validation tiles are taken out of the benchmark's training tiles."""

    name: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def subset_of(self, tile: str) -> Subset:
        """Subset that a tile belongs to; KeyError for a tile that the split does not name."""
        for subset in ("train", "val", "test"):
            if tile in getattr(self, subset):
                return subset
        raise KeyError(tile)

    @property
    def tiles(self) -> tuple[str, ...]:
        """All tiles, training first."""
        return self.train + self.val + self.test


@functools.cache
def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = yaml.load((Path(__file__).with_name("isprs.yaml")).read_text(), _TextLoader)
    return facts


class _TextLoader(yaml.SafeLoader):
    """Reads `2_10` as a text: YAML 1.1 would take it for the number 210."""


_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:int"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def classes() -> tuple[ClassInfo, ...]:
    """The classes in label order."""
    infos = []
    for c in _facts()["classes"]:
        red, green, blue = (int(value) for value in c["rgb"])
        infos.append(ClassInfo(c["name"], c["title"], (red, green, blue), c["in_means"]))
    return tuple(infos)


def palette() -> npt.NDArray[np.uint8]:
    """Colours of the classes, `[K, 3]` uint8 RGB, in label order."""
    return np.array([c.rgb for c in classes()], np.uint8)


def dataset(name: DatasetName) -> Dataset:
    """Facts of one data set."""
    facts = _facts()["datasets"][name]
    return Dataset(name, float(facts["gsd_m"]), tuple(facts["bands"]), facts["crs"], facts["files"])


def split(dataset_name: DatasetName, name: str) -> Split:
    """A named split.

    Raises:
        ParamsError: the data set has no split of this name; the message lists those it has.
    """
    named = _facts()["splits"][dataset_name]
    if name not in named:
        raise ParamsError(f"preprocess.split is {name!r}; {dataset_name} has the splits {', '.join(sorted(named))}")
    return Split(name, *(tuple(named[name][subset]) for subset in ("train", "val", "test")))


def acknowledgement(source: str) -> str:
    """What the terms of the data ask to be said wherever the data or a model made of it goes."""
    return str(_facts()["acknowledgements"][source])
