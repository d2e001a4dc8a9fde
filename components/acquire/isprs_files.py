"""`source: isprs`: what a user downloaded, in any arrangement -> one tree with every file at its place.

Files are found by name. World files apply to the pictures of their stem, wherever either was found.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from components.acquire.archives import Damaged, Found, listed, on_disk
from components.acquire.georeference import World, nearest, read_world
from components.acquire.intake import Candidate, Intake
from components.acquire.journal import JOURNAL, Journal
from components.acquire.trees import fill_tree, opened_tree
from components.common.data import datasets
from components.common.data.datasets import KINDS, Dataset, FileKind
from components.common.data.names import Names, Place, is_world_file, stem_key
from components.common.data.rawtree import RawTree
from components.common.errors import DataError
from components.common.readers.rasters import parse_crs

log = logging.getLogger(__name__)


def collect(sources: Sequence[Path], dataset: Dataset, folder: Path, *, exact: bool) -> RawTree:
    """Bring every file of a data set to its place; what is there and unchanged stays.

    Args:
        sources: folders and .zips, also zips of zips.
        dataset: whose names to look for; its `crs` is written into placed files that have none.
        folder: gets the files at `dataset.path(kind, tile)`, and `dataset.json`.
        exact: True makes the folder hold nothing else, and gives it up if it holds another data set; False adds to it.

    Returns:
        What lies in the folder, from earlier runs too.

    Raises:
        DataError: there is no file of the data set, an archive is not to be trusted, or the folder holds another data
            set (`exact` False).
    """
    if dataset.crs is not None:
        parse_crs(dataset.crs)
    names = Names(dataset)
    with listed(sources, folder) as listing:
        for problem in listing.problems:
            log.warning("left out: %s", problem)
        worlds = _worlds(listing.files)
        candidates = _candidates(listing.files, names, worlds, dataset.crs)
        nothing = DataError(_nothing(sources, names, dataset, listing.problems))
        if not candidates and (exact or not worlds or not (folder / JOURNAL).exists()):
            raise nothing
        with opened_tree(folder, "isprs", dataset, exact=exact) as journal:
            if not exact:
                candidates += _unplaced(journal, names, worlds, dataset.crs)
            if not candidates:
                raise nothing
            return fill_tree(Intake(journal, candidates, exact=exact), "isprs", dataset, _expected(dataset))


def _expected(dataset: Dataset) -> dict[str, dict[FileKind, str]]:
    return {
        tile: {kind: place for kind in KINDS if (place := dataset.path(kind, tile))}
        for tile in datasets.tiles(dataset.name)
    }


def _worlds(files: Sequence[Found]) -> dict[str, list[World]]:
    """World files by the stem that they share with their pictures."""
    worlds: dict[str, list[World]] = {}
    for found in files:
        if is_world_file(found.name):
            try:
                worlds.setdefault(stem_key(found.name), []).append(read_world(found))
            except Damaged as error:
                log.warning("left out: %s", error)
    return worlds


def _candidates(
    files: Sequence[Found], names: Names, worlds: Mapping[str, Sequence[World]], crs: str | None
) -> list[Candidate]:
    candidates = []
    for found in files:
        if places := names.places(found.name):
            world = nearest(worlds.get(stem_key(found.name), ()), found.name)
            candidates.append(Candidate(found, places, world, crs))
            candidates += _beside(places[0], world)
    return candidates


def _unplaced(
    journal: Journal, names: Names, worlds: Mapping[str, Sequence[World]], crs: str | None
) -> list[Candidate]:
    """Files of earlier runs that have no georeference, if their world file has come now."""
    candidates = []
    for entry in journal.taken.values():
        place = next((place for place in names.places(entry.place) if place.path == entry.place), None)
        world = nearest(worlds.get(stem_key(entry.place), ()), entry.place)
        if place and world and not entry.placed:
            found = on_disk(journal.folder / entry.place, entry.place)
            candidates += _beside(place, world) or [Candidate(found, (place,), world, crs)]
    return candidates


def _beside(place: Place, world: World | None) -> list[Candidate]:
    """The world file of a JPEG, which has no room for a georeference of its own."""
    path = PurePosixPath(place.path)
    if world is None or path.suffix != ".jpg":
        return []
    return [Candidate(world.found, (replace(place, path=str(path.with_suffix(".jgw"))),), raster=False)]


def _nothing(sources: Sequence[Path], names: Names, dataset: Dataset, problems: Sequence[str]) -> str:
    where = ", ".join(map(str, sources))
    looked = f"holds no file of {dataset.name}; looked for names like {', '.join(names.examples())}"
    return f"{where}: {looked}" + (f" ({problems[0]})" if problems else "")
