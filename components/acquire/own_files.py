"""`source: folder`: a user's own files, found by the patterns of their `dataset.yaml` -> the same paths in data/raw.

A tile is an id for which an image matches. A pattern without a field is one raster for all tiles. World files and the
like go with the raster that they lie beside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice
from pathlib import Path, PurePosixPath

from components.acquire.archives import Found, files_below, on_disk
from components.acquire.intake import Candidate, Intake
from components.acquire.patterns import compiled, plain_letters, tile_of
from components.acquire.trees import fill_tree, opened_tree
from components.common.data.datasets import KINDS, Dataset, FileKind
from components.common.data.names import WORLD_SUFFIXES, Place
from components.common.data.rawtree import RawTree
from components.common.errors import DataError

ALL = ""
"""Stands for the id of a raster that covers all tiles."""

SIDECARS = (*WORLD_SUFFIXES, ".prj")

Matches = dict[FileKind, dict[str, str]]  # kind -> tile id or ALL -> path below the user's folder


def collect_own(source: Path, dataset: Dataset, folder: Path) -> RawTree:
    """Link or copy the files of a user's data set, and remove what earlier runs left; the user's own stay as they are.

    Args:
        source: the user's folder.
        dataset: its patterns are relative to that folder.
        folder: gets the files at the same relative paths, and `dataset.json`.

    Raises:
        DataError: there is no such folder, a pattern matches nothing, or two files fit one tile.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; set data.path to the folder of your files")
    paths = [path.relative_to(source).as_posix() for path in files_below(source, folder)]
    matches = matched(paths, dataset, source)
    expected: dict[str, dict[FileKind, str]] = {
        tile: {kind: found[key] for kind, found in matches.items() for key in (tile, ALL) if key in found}
        for tile in sorted(matches["image"], key=_natural)
    }
    places = {path: Place(tile, kind, path) for tile, files in expected.items() for kind, path in files.items()}
    candidates = [Candidate(_found(source, path), (place,)) for path, place in sorted(places.items())]
    candidates += [
        Candidate(_found(source, path), (Place("", "image", path),), raster=False) for path in _sidecars(paths, places)
    ]
    with opened_tree(folder, "folder", dataset, exact=True) as journal:
        return fill_tree(Intake(journal, candidates, exact=True), "folder", dataset, expected)


def matched(paths: Sequence[str], dataset: Dataset, source: Path) -> Matches:
    """Which of the paths below the user's folder belong to which kind and tile.

    A path that fits the patterns of two kinds belongs to the one with more letters of its own: `a_label.tif` to
    `{tile}_label.tif`, not to `{tile}.tif`.

    Raises:
        DataError: a pattern fits nothing, two files fit one tile, or the image pattern has no field.
    """
    patterns = {kind: pattern for kind in KINDS if (pattern := dataset.pattern(kind))}
    for (one, pattern), (other, same) in combinations(patterns.items(), 2):
        if pattern == same:
            raise DataError(f"{dataset.name}: {one} and {other} have the same pattern {pattern!r}; give each its own")
    if "{" not in patterns["image"]:
        raise DataError(f"{dataset.name}: the image pattern {patterns['image']!r} has no field; write {{tile}} in it")
    matches: Matches = {kind: {} for kind in patterns}
    for path, kind, tile in _fitting(paths, patterns):
        if (twice := matches[kind].setdefault(tile, path)) != path:
            whose = f"of tile {tile}" if tile else "for all tiles"
            raise DataError(f"{source}: {twice} and {path} are both the {kind} {whose}; remove one of them")
    for kind, found in matches.items():
        if not found:
            there = ", ".join(paths[:3]) + ", ..." * (len(paths) > 3) if paths else "nothing"
            raise DataError(f"{source}: no file fits the {kind} pattern {patterns[kind]!r}; there is {there}")
    return matches


def _fitting(paths: Sequence[str], patterns: Mapping[FileKind, str]) -> Iterator[tuple[str, FileKind, str]]:
    by_weight = sorted(patterns, key=lambda kind: plain_letters(patterns[kind]), reverse=True)
    expressions: dict[FileKind, re.Pattern[str]] = {kind: compiled(patterns[kind]) for kind in by_weight}
    for path in paths:
        fits = ((kind, match) for kind in by_weight if (match := expressions[kind].fullmatch(path)))
        for kind, match in islice(fits, 1):
            yield path, kind, tile_of(match) or ALL


def _sidecars(paths: Sequence[str], rasters: Mapping[str, Place]) -> list[str]:
    """World files, .prj and .aux.xml that lie beside a raster."""
    stems = {str(PurePosixPath(path).with_suffix("")) for path in rasters}
    return [
        path
        for path in paths
        if path not in rasters
        and (
            (path.lower().endswith(SIDECARS) and str(PurePosixPath(path).with_suffix("")) in stems)
            or path.removesuffix(".aux.xml") in rasters
        )
    ]


def _found(source: Path, path: str) -> Found:
    return on_disk(source / path, f"{source.absolute().name}/{path}")


def _natural(tile: str) -> list[tuple[int, str]]:
    """Sorts 9 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", tile)]
