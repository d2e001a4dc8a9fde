"""The raw tiles in data/raw: files below one folder, and `dataset.json`, which describes them.

Acquire writes `dataset.json`. Check and preprocess know the data set only from it. Paths and tile ids have the Unicode
form NFC.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from components.common.data.datasets import KINDS, Dataset, FileKind, Sensor, dataset_from
from components.common.errors import DataError, ParamsError
from components.common.files import write_json

RECORD = "dataset.json"

NAN = "NaN"
"""A mark of pixels without data that is not a number; JSON has only the text."""


@dataclass(frozen=True, slots=True)
class RawTree:
    """The tiles and their files."""

    folder: Path
    source: str  # sample | isprs | folder
    dataset: Dataset
    tiles: Mapping[str, Mapping[FileKind, str]]  # tile id -> kind -> path below the folder; absent: not found
    unreadable: Mapping[str, tuple[FileKind, ...]] = field(default_factory=dict)  # files that were found, but damaged

    def file(self, tile: str, kind: FileKind) -> Path | None:
        """A raw file; None if the tile has none of this kind."""
        place = self.tiles.get(tile, {}).get(kind)
        return None if place is None else self.folder / place

    def sensors(self, tile: str) -> tuple[Sensor, ...]:
        """What a tile was recorded with."""
        return sensors_of(self.dataset, self.tiles.get(tile, {}))


def sensors_of(dataset: Dataset, files: Collection[FileKind]) -> tuple[Sensor, ...]:
    """The sensors of a tile that has files of these kinds, in the order of `SENSORS`; a tile needs one of them.

    A file with the heights of all tiles gives no tile its grid, so without an image it is no sensor of a tile.
    """
    dsm = "dsm" in files and ("image" in files or not dataset.one_for_all("dsm"))
    there: dict[Sensor, bool] = {"rgb": "image" in files, "dsm": dsm}
    return tuple(sensor for sensor, found in there.items() if found)


def write_raw_tree(tree: RawTree) -> None:
    """Write `dataset.json` atomically and last, so that a folder without it is incomplete."""
    tiles = {tile: dict(files) for tile, files in tree.tiles.items()}
    dataset = _with_marks(asdict(tree.dataset), lambda mark: NAN if mark != mark else mark)
    content: dict[str, Any] = {"source": tree.source, "dataset": dataset, "tiles": tiles}
    if tree.unreadable:
        content["unreadable"] = {tile: list(kinds) for tile, kinds in tree.unreadable.items()}
    write_json(tree.folder / RECORD, content)


def read_raw_tree(folder: Path) -> RawTree:
    """Read what acquire wrote.

    Raises:
        DataError: `dataset.json` is missing or damaged.
    """
    path = folder / RECORD
    try:
        content = json.loads(path.read_text())
        tiles = {str(tile): _checked(files) for tile, files in content["tiles"].items()}
        unreadable = {str(tile): tuple(kinds) for tile, kinds in content.get("unreadable", {}).items()}
        dataset = dataset_from(_with_marks(content["dataset"], lambda mark: math.nan if mark == NAN else mark))
        return RawTree(folder, str(content["source"]), dataset, tiles, unreadable)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run the acquire step first") from None
    except (ValueError, KeyError, TypeError, AttributeError, ParamsError) as error:
        raise DataError(f"{path}: damaged ({error}); run the acquire step again") from None


def _with_marks(dataset: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """The facts of a data set with every mark of pixels without data changed."""
    facts = dict(dataset)
    for kind in KINDS:
        if isinstance(layer := facts.get(kind), Mapping):
            marks = {key: layer[key] for key in ("nodata", "ignore") if isinstance(layer.get(key), list | tuple)}
            facts[kind] = {**layer, **{key: [change(mark) for mark in given] for key, given in marks.items()}}
    return facts


def _checked(files: Mapping[FileKind, str]) -> dict[FileKind, str]:
    for kind, place in files.items():
        if kind not in KINDS or PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
            raise ValueError(f"{kind}: {place!r} is not a path below the folder")
    return dict(files)
