"""The folder that an import fills: one data set, its journal and, when complete, `dataset.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from components.acquire.intake import Intake, clear
from components.acquire.journal import Journal
from components.common.data.datasets import Dataset, FileKind
from components.common.data.rawtree import RawTree, write_raw_tree
from components.common.errors import DataError


@contextmanager
def opened_tree(folder: Path, source: str, dataset: Dataset, *, exact: bool) -> Iterator[Journal]:
    """Open the journal of a folder that holds this data set or nothing.

    Args:
        folder: created if it does not exist.
        source: isprs or folder.
        dataset: the data set.
        exact: True removes the files of another data set from the folder; False makes them an error.

    Raises:
        DataError: it holds another data set, or another process writes into it.
    """
    identity = {"source": source, "dataset": dataset.name}
    with Journal(folder) as journal:
        if journal.identity != identity:
            if journal.identity and not exact:
                raise DataError(f"{folder}: holds the data set {journal.identity['dataset']}; choose another folder")
            if exact:
                clear(folder)
            journal.begin(identity)
        yield journal


def fill_tree(intake: Intake, source: str, dataset: Dataset, expected: Mapping[str, Mapping[FileKind, str]]) -> RawTree:
    """Bring the candidates, delete other files if the tree is exact, and list the result in `dataset.json`.

    Args:
        intake: for a folder from `opened_tree`.
        source: as in `opened_tree`.
        dataset: the data set.
        expected: tile id -> kind -> place; `dataset.json` lists the places that hold a file.

    Raises:
        DataError: the disk is too small, or none of the files can be read.
    """
    intake.bring()
    found = {
        tile: {kind: place for kind, place in files.items() if intake.holder(place)} for tile, files in expected.items()
    }
    tiles = {tile: files for tile, files in found.items() if files}
    if not tiles:
        first = f"; the first problem: {intake.problems[0]}" if intake.problems else "; copy them again"
        raise DataError(f"{intake.folder}: none of the files of {dataset.name} could be read{first}")
    intake.sweep()
    damaged = {
        tile: tuple(kind for kind in files if kind not in found[tile] and files[kind] in intake.unreadable)
        for tile, files in expected.items()
    }
    tree = RawTree(intake.folder, source, dataset, tiles, {tile: kinds for tile, kinds in damaged.items() if kinds})
    write_raw_tree(tree)
    return tree
