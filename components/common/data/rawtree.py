"""The raw tiles in data/raw: files below one folder, and `dataset.json`, which describes them.

Acquire writes `dataset.json`. Check and preprocess know the data set only from it. Paths and tile ids have the Unicode
form NFC.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from components.common.data.datasets import KINDS, Dataset, FileKind, dataset_from
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

    def file(self, tile: str, kind: FileKind) -> Path | None:
        """A raw file; None if the tile has none of this kind."""
        place = self.tiles.get(tile, {}).get(kind)
        return None if place is None else self.folder / place


def write_raw_tree(tree: RawTree) -> None:
    """Write `dataset.json` atomically and last, so that a folder without it is incomplete."""
    tiles = {tile: dict(files) for tile, files in tree.tiles.items()}
    dataset = _with_marks(asdict(tree.dataset), lambda mark: NAN if mark != mark else mark)
    write_json(tree.folder / RECORD, {"source": tree.source, "dataset": dataset, "tiles": tiles})


def read_raw_tree(folder: Path) -> RawTree:
    """Read what acquire wrote.

    Raises:
        DataError: `dataset.json` is missing or damaged.
    """
    path = folder / RECORD
    try:
        content = json.loads(path.read_text())
        tiles = {str(tile): _checked(files) for tile, files in content["tiles"].items()}
        dataset = dataset_from(_with_marks(content["dataset"], lambda mark: math.nan if mark == NAN else mark))
        return RawTree(folder, str(content["source"]), dataset, tiles)
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
