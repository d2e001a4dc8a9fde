"""`source: folder`: the user's own files, found with the patterns in `dataset.yaml` -> the same paths in data/raw.

A tile is an id for which an image exists, or a DSM and a label. A pattern without a field is one raster for all tiles.
Sidecar files and the sources of a VRT come along. Names are compared and written in Unicode NFC: a pattern finds a file
in either form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, islice
from pathlib import Path, PurePosixPath

from components.acquire.archives import Found, files_below, on_disk
from components.acquire.intake import Candidate, Intake
from components.acquire.patterns import compiled, plain_letters, tile_of
from components.acquire.sidecars import Sidecars
from components.acquire.trees import fill_tree, opened_tree
from components.acquire.vrt import below, relocated
from components.common.data.datasets import KINDS, Dataset, FileKind
from components.common.data.names import Place, nfc
from components.common.data.rawtree import RawTree
from components.common.errors import DataError
from components.common.rasterfiles.formats import FORMATS, unsupported, vrt_sources

ALL = ""
"""Stands for the id of a raster that covers all tiles."""

Matches = dict[FileKind, dict[str, str]]  # kind -> tile id or ALL -> path below the user's folder, NFC


def collect_own(source: Path, dataset: Dataset, folder: Path) -> RawTree:
    """Link or copy the files of a user's data set and delete what earlier runs left. The user's files stay unchanged.

    Args:
        source: the user's folder.
        dataset: its patterns are relative to that folder.
        folder: receives the files at the same relative paths, and `dataset.json`.

    Raises:
        DataError: the folder does not exist, a pattern matches nothing, two files fit one tile, a format is not
            supported, or a VRT reads files outside the folder.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; set data.path to the folder of your files")
    found = _listed(source, folder)
    matches = matched(list(found), dataset, source)
    expected: dict[str, dict[FileKind, str]] = {
        tile: {kind: files[key] for kind, files in matches.items() for key in (tile, ALL) if key in files}
        for tile in sorted(_tiles(matches), key=_natural)
    }
    places = {path: Place(tile, kind, path) for tile, files in expected.items() for kind, path in files.items()}
    candidates = _candidates(source, found, places)
    with opened_tree(folder, "folder", dataset, exact=True) as journal:
        return fill_tree(Intake(journal, candidates, exact=True), "folder", dataset, expected)


def _tiles(matches: Matches) -> set[str]:
    """Ids of the tiles; heights without an image are one only if somebody has labelled them."""
    heights, labels = matches["dsm"].keys() - {ALL}, matches["label"].keys()
    return {*matches["image"], *(heights if ALL in labels else heights & labels)}


def _listed(source: Path, skip: Path) -> dict[str, Found]:
    """Files of the user's folder by their relative path in NFC."""
    found: dict[str, Found] = {}
    for path in files_below(source, skip):
        place = path.relative_to(source).as_posix()
        if nfc(place) in found:
            raise DataError(f"{source}: two files are called {nfc(place)}, in two Unicode forms; remove one of them")
        found[nfc(place)] = on_disk(path, f"{source.absolute().name}/{place}")
    return found


def _candidates(source: Path, found: Mapping[str, Found], places: Mapping[str, Place]) -> list[Candidate]:
    sidecars = Sidecars(found.items())
    candidates: list[Candidate] = []
    sources: dict[str, Path] = {}  # of VRTs
    for path, place in sorted(places.items()):
        file = found[path].path or source / path
        parts = {nfc(below(source, part)): part for part in _parts(file, source)}
        sources |= parts
        candidates.append(
            Candidate(
                found[path],
                (place,),
                sidecars.of(path, path),
                content=relocated(file, source, path),
                parts_size=sum(part.stat().st_size for part in parts.values()),
            )
        )
    for path, file in sorted(sources.items()):
        if path not in places:
            part = found.get(path) or on_disk(file, f"{source.absolute().name}/{path}")
            where = (Place("", "image", path),)
            content = relocated(file, source, path)
            candidates.append(Candidate(part, where, sidecars.of(path, path), content=content, raster=False))
    return candidates


def _parts(file: Path, source: Path) -> list[Path]:
    return vrt_sources(file, source) if file.suffix.lower() == ".vrt" else []


def matched(paths: Sequence[str], dataset: Dataset, source: Path) -> Matches:
    """Assign the paths below the user's folder to kinds and tiles.

    A path that fits the patterns of two kinds belongs to the pattern with more fixed letters: `a_label.tif` to
    `{tile}_label.tif`, not to `{tile}.tif`.

    Args:
        paths: relative to the folder, in NFC.
        dataset: its patterns.
        source: the folder, for messages.

    Raises:
        DataError: a pattern fits nothing, two files fit one tile, or the image pattern has no field.
    """
    patterns = {kind: nfc(pattern) for kind in KINDS if (pattern := dataset.pattern(kind))}
    for (one, pattern), (other, same) in combinations(patterns.items(), 2):
        if pattern == same:
            raise DataError(f"{dataset.name}: {one} and {other} have the same pattern {pattern!r}; give each its own")
    if "{" not in patterns["image"]:
        raise DataError(f"{dataset.name}: the image pattern {patterns['image']!r} has no field; write {{tile}} in it")
    matches: Matches = {kind: {} for kind in patterns}
    for path, kind, tile in _fitting(filter(is_raster, paths), patterns):
        if (twice := matches[kind].setdefault(tile, path)) != path:
            whose = f"of tile {tile}" if tile else "for all tiles"
            raise DataError(f"{source}: {twice} and {path} are both the {kind} {whose}; remove one of them")
    for kind, found in matches.items():
        if not found:
            if others := [path for path, fit, _ in _fitting(paths, patterns) if fit == kind]:
                raise DataError(f"{source}: {others[0]}: {unsupported(others[0])}")
            there = ", ".join(paths[:3]) + ", ..." * (len(paths) > 3) if paths else "nothing"
            raise DataError(f"{source}: no file fits the {kind} pattern {patterns[kind]!r}; the folder has {there}")
    return matches


def is_raster(path: str) -> bool:
    """Whether a name has the suffix of a supported format."""
    return PurePosixPath(path).suffix.lower() in FORMATS


def _fitting(paths: Iterable[str], patterns: Mapping[FileKind, str]) -> Iterator[tuple[str, FileKind, str]]:
    by_weight = sorted(patterns, key=lambda kind: plain_letters(patterns[kind]), reverse=True)
    expressions: dict[FileKind, re.Pattern[str]] = {kind: compiled(patterns[kind]) for kind in by_weight}
    for path in paths:
        fits = ((kind, match) for kind in by_weight if (match := expressions[kind].fullmatch(path)))
        for kind, match in islice(fits, 1):
            yield path, kind, tile_of(match) or ALL


def _natural(tile: str) -> list[tuple[int, str]]:
    """Sorts 9 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", tile)]
