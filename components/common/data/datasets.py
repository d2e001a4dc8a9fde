"""Data sets as data: the facts and splits in `datasets/NAME/`. The only reader of these files.

`dataset.yaml` holds the facts (classes, bands, ground size, where files lie); every other YAML file next to it is a
split, named by the file: lists of tile ids. A user's own data set is one more such folder.
"""

from __future__ import annotations

import functools
import re
import string
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from components.common.data.layerinfo import Colour, DsmInfo, ImageInfo, LabelInfo, image_facts, label_facts
from components.common.errors import ParamsError
from components.common.params import from_mapping, read_yaml

LONGEST_NAME = 100
"""Most characters of a class name; MLflow limits a metric's name to 250."""

IGNORE = 255
"""Label value of a pixel that no loss and no score counts."""

FOLDER = Path(__file__).parents[3] / "datasets"
FACTS = "dataset.yaml"

FileKind = Literal["image", "dsm", "label", "eroded"]
Subset = Literal["train", "val", "test"]

KINDS: tuple[FileKind, ...] = ("image", "dsm", "label", "eroded")

Sensor = Literal["rgb", "dsm"]

SENSORS: tuple[Sensor, ...] = ("rgb", "dsm")
"""What a tile may have, in the order of the network's inputs: the image, whatever its bands, and the heights."""

CONDITIONS: dict[str, tuple[Sensor, ...]] = {"rgb+dsm": ("rgb", "dsm"), "rgb": ("rgb",), "dsm": ("dsm",)}
"""Condition -> the sensors that a network gets; the others are hidden."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassInfo:
    """One class; its place in the list is its label value in the store."""

    name: str
    rgb: tuple[int, int, int]  # in pictures, and in label files that tell classes by colour
    in_means: bool  # False: left out of mIoU and mF1 (but counted in OA)
    value: int | None = None  # in label files that tell classes by value

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > LONGEST_NAME or not self.name.isprintable():
            raise ValueError(f"name is {self.name!r}; expected 1 to {LONGEST_NAME} printable characters")
        if not all(0 <= channel <= 255 for channel in self.rgb):
            raise ValueError(f"rgb is {list(self.rgb)}; expected three numbers in 0..255")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """The facts that hold for every tile of a data set, for the chosen variants."""

    name: str
    gsd_m: float  # ground size of a pixel, metres, > 0
    crs: str | None  # of files without a reference system; None: they must have one
    acknowledgement: str  # text that the terms of the data require wherever the data or a model made of it is shown
    labels: Literal["colours", "values"]  # how label files tell classes
    classes: tuple[ClassInfo, ...]  # in label order
    class_shares: tuple[float, ...] | None  # of the labelled pixels of all tiles, percent; None: not known
    image: ImageInfo
    dsm: DsmInfo
    label: LabelInfo
    eroded: LabelInfo | None  # labels without object boundaries; None: they are made

    def __post_init__(self) -> None:
        if not self.gsd_m > 0:
            raise ValueError(f"gsd_m is {self.gsd_m}; expected a number of metres above 0")
        if not 2 <= len(self.classes) < IGNORE:
            raise ValueError(f"classes has {len(self.classes)} entries; expected 2 to {IGNORE - 1}")
        if not any(c.in_means for c in self.classes):
            raise ValueError("classes has no entry with in_means true; expected at least one that counts in the mIoU")
        told_by: list[Any] = [c.rgb if self.labels == "colours" else c.value for c in self.classes]
        if None in told_by:
            raise ValueError(f"classes has no value for {self.classes[told_by.index(None)].name!r}; labels are values")
        for what, given in (("name", [c.name for c in self.classes]), (self.labels[:-1], told_by)):
            if len(set(given)) < len(given):
                raise ValueError(f"classes has one {what} twice; expected one of its own for each class")
        if self.class_shares is not None and len(self.class_shares) != len(self.classes):
            raise ValueError(f"class_shares has {len(self.class_shares)} numbers; expected one per class, or null")
        for label in filter(None, (self.label, self.eroded)):
            if len(label.bands or (1,)) not in ((1, 3) if self.labels == "colours" else (1,)):
                wanted = "three band numbers, or one with a palette" if self.labels == "colours" else "one band number"
                raise ValueError(
                    f"label has the bands {list(label.bands or ())}; labels are {self.labels}: write {wanted}"
                )
            for mark in label.marks(self.labels):
                if mark in told_by:
                    name = self.classes[told_by.index(mark)].name
                    raise ValueError(
                        f"label declares {_shown(mark)} as not labelled, which is also the class {name}; remove it "
                        "from nodata or ignore, or remove the class"
                    )
        for kind in KINDS:
            _check_pattern(kind, self.pattern(kind))

    def pattern(self, kind: FileKind) -> str | None:
        """Where the files of a kind lie below the raw folder, `{}` for what differs from tile to tile."""
        if kind == "eroded":
            return None if self.eroded is None else self.eroded.files
        files = {"image": self.image.files, "dsm": self.dsm.files, "label": self.label.files}
        return files[kind]

    def path(self, kind: FileKind, tile: str) -> str | None:
        """Path of one file of a tile below the raw folder; None for eroded labels that are made.

        A pattern with the field `tile` takes the full id, one with other fields the numbers between its underscores.
        """
        pattern = self.pattern(kind)
        return None if pattern is None else pattern.format(**_values(pattern, tile))

    def one_for_all(self, kind: FileKind) -> bool:
        """Whether one file, a mosaic, serves all tiles."""
        pattern = self.pattern(kind)
        return pattern is not None and not _fields(pattern)

    @property
    def palette(self) -> npt.NDArray[np.uint8]:
        """Colours of the classes, `[K, 3]`, RGB, in label order."""
        return np.array([c.rgb for c in self.classes], np.uint8)


@dataclass(frozen=True, slots=True)
class Split:
    """Tile ids per subset; disjoint. Validation tiles are taken out of a benchmark's training tiles."""

    name: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    note: str = ""

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


def names() -> tuple[str, ...]:
    """Names of all data sets."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob(f"*/{FACTS}")))


def dataset(name: str, image: str | None = None, dsm: str | None = None) -> Dataset:
    """A data set by name.

    Args:
        name: a folder of `datasets/`.
        image: variant of the images; None: the first one listed.
        dsm: variant of the heights; None: the first one listed.

    Raises:
        ParamsError: there is none of this name, it has no such variant, or its file is invalid.
    """
    if name not in names():
        raise ParamsError(f"no data set is called {name!r}; {FOLDER.name}/ has {', '.join(names())}")
    path = FOLDER / name / FACTS
    facts = dict(read_yaml(path))
    for key, variant in (("image", image), ("dsm", dsm)):
        facts[key] = _variant(path, facts, key, variant)
    try:
        return dataset_from(facts | {"name": name})
    except ParamsError as error:
        raise ParamsError(f"{path}: {error}") from None


def dataset_from(facts: Mapping[str, Any]) -> Dataset:
    """A data set from its facts, as `dataclasses.asdict` and JSON make them.

    Raises:
        ParamsError: a fact is missing or invalid.
    """
    facts = {**facts, "image": image_facts(facts.get("image"))}
    for kind in ("label", "eroded"):
        if kind in facts:
            facts[kind] = label_facts(facts[kind])
    return from_mapping(Dataset, facts, "dataset")


def split(dataset_name: str, name: str) -> Split:
    """A split of a data set.

    Raises:
        ParamsError: there is no such split, or its file is invalid.
    """
    path = FOLDER / dataset_name / f"{name}.yaml"
    known = [p.stem for p in sorted(path.parent.glob("*.yaml")) if p.name != FACTS]
    if name not in known:
        raise ParamsError(f"data.split is {name!r}; {dataset_name} has the splits {', '.join(known)}")
    given = read_yaml(path, strings=True)  # every id is a text: 2_10 would be a number otherwise
    try:
        found = from_mapping(Split, {"name": name, **given}, "split")
    except ParamsError as error:
        raise ParamsError(f"{path}: {error}") from None
    found = replace(found, train=_nfc(found.train), val=_nfc(found.val), test=_nfc(found.test))
    twice = sorted(tile for tile in set(found.tiles) if found.tiles.count(tile) > 1)
    if twice:
        raise ParamsError(f"{path}: tile {twice[0]} is listed twice; train, val and test must be disjoint")
    if not found.train:
        raise ParamsError(f"{path}: train is empty; list the ids of the training tiles")
    return found


def splits(dataset_name: str) -> tuple[Split, ...]:
    """All splits of a data set, by name."""
    paths = sorted((FOLDER / dataset_name).glob("*.yaml"))
    return tuple(split(dataset_name, path.stem) for path in paths if path.name != FACTS)


@functools.cache
def tiles(dataset_name: str) -> tuple[str, ...]:
    """Every tile that a split of the data set names."""
    return tuple(sorted({tile for s in splits(dataset_name) for tile in s.tiles}, key=_natural))


def _variant(path: Path, facts: Mapping[str, Any], key: str, variant: str | None) -> object:
    variants = facts.get(key)
    if not isinstance(variants, Mapping) or not variants:
        raise ParamsError(f"{path}: {key} is {variants!r}; expected variants by name, each with its files")
    if variant is not None and variant not in variants:
        raise ParamsError(f"data.{key} is {variant!r}; {path.parent.name} has {', '.join(variants)}")
    return variants[variant or next(iter(variants))]


def _check_pattern(kind: str, pattern: str | None) -> None:
    if pattern is None and kind == "eroded":
        return
    if not pattern or pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
        raise ValueError(f"{kind} is {pattern!r}; expected a path pattern without .. below the folder of the files")
    try:
        given = _fields(pattern)
    except ValueError as error:
        raise ValueError(f"{kind} is {pattern!r}, not a path pattern ({error})") from None
    if not all(name.isidentifier() for name in given) or ("tile" in given and set(given) != {"tile"}):
        raise ValueError(f"{kind} is {pattern!r}; expected {{tile}}, or fields of letters such as {{r}} and {{c}}")


def _fields(pattern: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]


def _values(pattern: str, tile: str) -> dict[str, str | int]:
    """What the fields of a pattern are for a tile."""
    given = list(dict.fromkeys(_fields(pattern)))
    if given == ["tile"]:
        return {"tile": tile}
    if not given:
        return {}
    try:
        return dict(zip(given, map(int, tile.split("_")), strict=True))
    except ValueError:
        fields = "_".join(given)
        raise ParamsError(
            f"tile {tile!r} has no place in {pattern!r}; expected an id of numbers like {fields}"
        ) from None


def _shown(mark: float | Colour) -> str:
    return f"RGB {', '.join(map(str, mark))}" if isinstance(mark, tuple) else f"the value {mark:g}"


def _nfc(tiles: tuple[str, ...]) -> tuple[str, ...]:
    """Tile ids in the Unicode form of data/raw; `ü` may be written as `u` and two dots."""
    return tuple(unicodedata.normalize("NFC", tile) for tile in tiles)


def _natural(tile: str) -> list[tuple[int, str]]:
    """Sorts 2_9 before 2_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", tile)]
