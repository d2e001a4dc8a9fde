"""The folder that an import fills: of one data set only, with a journal, and at the end with `dataset.json`."""

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
    """Journal of a folder that holds this data set or nothing.

    Args:
        folder: made if it does not exist.
        source: isprs or folder.
        dataset: what it is to hold.
        exact: True: the folder is ours, and what another data set left in it is removed; False: that is an error.

    Raises:
        DataError: it holds another data set, or another process writes into it.
    """
    identity = {"source": source, "dataset": dataset.name}
    with Journal(folder) as journal:
        if journal.identity != identity:
            if journal.identity and not exact:
                raise DataError(f"{folder}: holds the data set {journal.identity['dataset']}; name another folder")
            if exact:
                clear(folder)
            journal.begin(identity)
        yield journal


def fill_tree(intake: Intake, source: str, dataset: Dataset, expected: Mapping[str, Mapping[FileKind, str]]) -> RawTree:
    """Bring the candidates, remove what must not stay, and say in `dataset.json` what lies in the folder now.

    Args:
        intake: of a folder from `opened_tree`.
        source: as there.
        dataset: what the files are.
        expected: tile id -> kind -> place; of these, the ones that are there are listed.

    Raises:
        DataError: the disk is too small, or none of the files can be read.
    """
    intake.bring()
    found = {
        tile: {kind: place for kind, place in files.items() if intake.holder(place)} for tile, files in expected.items()
    }
    tiles = {tile: files for tile, files in found.items() if files}
    if not tiles:
        raise DataError(f"{intake.folder}: none of the files of {dataset.name} could be read; copy them again")
    intake.sweep()
    tree = RawTree(intake.folder, source, dataset, tiles)
    write_raw_tree(tree)
    return tree
