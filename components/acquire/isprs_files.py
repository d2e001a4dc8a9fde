"""`source: isprs`: files as downloaded, in any arrangement -> one tree with every file at its place.

Files are found by name. A world file applies to the rasters with its stem, wherever either was found. It is copied next
to them, and the rasters themselves stay unchanged.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from components.acquire.archives import Damaged, Found, listed, on_disk
from components.acquire.intake import Candidate, Intake
from components.acquire.journal import JOURNAL, Journal
from components.acquire.sidecars import Sidecars
from components.acquire.trees import fill_tree, opened_tree
from components.acquire.world_files import check_world_file, is_world_file, nearest
from components.common.data import datasets
from components.common.data.datasets import KINDS, Dataset, FileKind
from components.common.data.names import Names, Place, stem_key
from components.common.data.rawtree import RawTree
from components.common.errors import DataError
from components.common.rasterfiles.formats import FORMATS

log = logging.getLogger(__name__)


def collect(sources: Sequence[Path], dataset: Dataset, folder: Path, *, exact: bool) -> RawTree:
    """Bring every file of a data set to its place; unchanged files stay.

    Args:
        sources: folders and .zips, also zips of zips.
        dataset: the data set whose files to look for.
        folder: receives the files at `dataset.path(kind, tile)`, and `dataset.json`.
        exact: True makes the folder hold these files only and deletes those of another data set; False adds to it.

    Returns:
        The content of the folder, including earlier runs.

    Raises:
        DataError: no file of the data set was found, an archive is unsafe, or the folder holds another data set
            (`exact` False).
    """
    names = Names(dataset)
    with listed(sources, folder) as listing:
        for problem in listing.problems:
            log.warning("left out: %s", problem)
        worlds = _worlds(listing.files)
        candidates = _candidates(listing.files, names, worlds)
        nothing = DataError(_nothing(sources, names, dataset, listing.problems))
        if not candidates and (exact or not worlds or not (folder / JOURNAL).exists()):
            raise nothing
        with opened_tree(folder, "isprs", dataset, exact=exact) as journal:
            if not exact:
                candidates += _unplaced(journal, names, worlds)
            if not candidates:
                raise nothing
            return fill_tree(Intake(journal, candidates, exact=exact), "isprs", dataset, _expected(dataset))


def _expected(dataset: Dataset) -> dict[str, dict[FileKind, str]]:
    return {
        tile: {kind: place for kind in KINDS if (place := dataset.path(kind, tile))}
        for tile in datasets.tiles(dataset.name)
    }


def _worlds(files: Sequence[Found]) -> dict[str, list[Found]]:
    """Valid world files by the stem that they share with their rasters."""
    worlds: dict[str, list[Found]] = {}
    for found in files:
        if is_world_file(found.name):
            try:
                check_world_file(found)
                worlds.setdefault(stem_key(found.name), []).append(found)
            except Damaged as error:
                log.warning("left out: %s", error)
    return worlds


def _candidates(files: Sequence[Found], names: Names, worlds: Mapping[str, Sequence[Found]]) -> list[Candidate]:
    sidecars = Sidecars((found.name, found) for found in files if not is_world_file(found.name))
    candidates = []
    for found in files:
        if places := names.places(found.name):
            sidecar_files = sidecars.of(found.name, places[0].path) | _world(found.name, places[0], worlds)
            candidates.append(Candidate(found, places, sidecar_files))
    return candidates


def _unplaced(journal: Journal, names: Names, worlds: Mapping[str, Sequence[Found]]) -> list[Candidate]:
    """Rasters of earlier runs that have no position, if their world file is found now."""
    candidates = []
    for entry in journal.taken.values():
        place = next((place for place in names.places(entry.place) if place.path == entry.place), None)
        if place and not entry.placed and (world := _world(entry.place, place, worlds)):
            found = on_disk(journal.folder / entry.place, entry.place)
            candidates.append(Candidate(found, (place,), world))
    return candidates


def _world(raster: str, place: Place, worlds: Mapping[str, Sequence[Found]]) -> dict[str, Found]:
    """The world file of a raster, by the file name that it gets next to the raster's place."""
    path, world = PurePosixPath(place.path), nearest(worlds.get(stem_key(raster), ()), raster)
    return {path.with_suffix(FORMATS[path.suffix].world[0]).name: world} if world else {}


def _nothing(sources: Sequence[Path], names: Names, dataset: Dataset, problems: Sequence[str]) -> str:
    where = ", ".join(map(str, sources))
    looked = f"holds no file of {dataset.name}; expected names like {', '.join(names.examples())}"
    return f"{where}: {looked}" + (f" ({problems[0]})" if problems else "")
