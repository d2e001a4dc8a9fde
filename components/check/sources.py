"""A folder -> the tiles in it: as imported, with its `dataset.json`, or as unpacked, told by the names of the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components.check.findings import Finding, finding
from components.common.data import datasets
from components.common.data.datasets import FACTS, FOLDER, KINDS, Dataset, FileKind
from components.common.data.names import Names
from components.common.data.rawtree import RECORD, RawTree, read_raw_tree
from components.common.errors import DataError
from components.common.params import read_yaml
from components.common.readers.rasters import DRIVERS

GENERATED = "sample"
"""Named as Potsdam, but never without its `dataset.json`: a folder without one is not of this data set."""


@dataclass(frozen=True, slots=True)
class Source:
    """What lies in a folder."""

    tree: RawTree
    findings: tuple[Finding, ...]  # made while the files were told apart


def open_source(folder: Path, dataset_name: str | None) -> Source:
    """Find out what lies in a folder.

    Args:
        folder: as imported, or files in any folders below it.
        dataset_name: which data set it is; None: the one whose files it has.

    Raises:
        DataError: there is no such folder, no file of a data set is in it, or it could be of several.
        ParamsError: no data set is called so.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name the one that holds the tiles")
    if (folder / RECORD).is_file():
        tree = read_raw_tree(folder)
        if dataset_name not in (None, tree.dataset.name):
            raise DataError(f"{folder}: holds {tree.dataset.name}, not {dataset_name}; leave out --dataset")
        return Source(tree, ())
    found = sorted(_pictures(folder))
    candidates = (dataset_name,) if dataset_name else tuple(n for n in datasets.names() if n != GENERATED)
    sources = [_told_by_names(folder, _likely_variants(name, found), found) for name in candidates]
    counts = [sum(len(files) for files in source.tree.tiles.values()) for source in sources]
    if not any(counts):
        raise DataError(_nothing(folder, candidates))
    best = [source for source, count in zip(sources, counts, strict=True) if count == max(counts)]
    if len(best) > 1:
        names = " or ".join(source.tree.dataset.name for source in best)
        raise DataError(f"{folder}: could be {names}; say which with --dataset")
    return best[0]


def _pictures(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.suffix.lower() in DRIVERS and path.is_file():
            yield path.relative_to(folder).as_posix()


def _likely_variants(name: str, found: list[str]) -> Dataset:
    """The data set in the variants of which most files are there; the first listed where two have as many."""
    facts = read_yaml(FOLDER / name / FACTS) if name in datasets.names() else {}
    chosen: dict[str, str | None] = {"image": None, "dsm": None}
    for key in chosen:
        variants = list(facts.get(key) or [])
        counts = [_count(datasets.dataset(name, **{key: variant}), key, found) for variant in variants]
        chosen[key] = variants[counts.index(max(counts))] if counts else None
    return datasets.dataset(name, chosen["image"], chosen["dsm"])


def _count(dataset: Dataset, kind: str, found: list[str]) -> int:
    names = Names(dataset)
    return sum(any(place.kind == kind for place in names.places(path)) for path in found)


def _told_by_names(folder: Path, dataset: Dataset, found: list[str]) -> Source:
    """Every file goes to the tile and kind that its path or, failing that, its name says."""
    tiles: dict[str, dict[FileKind, str]] = {}
    findings = []
    for tile in datasets.tiles(dataset.name):
        exact = {kind: dataset.path(kind, tile) for kind in KINDS}
        files = {kind: path for kind, path in exact.items() if path is not None and (folder / path).is_file()}
        if files:
            tiles[tile] = files
    names, taken = Names(dataset), {path for files in tiles.values() for path in files.values()}
    for path in found:
        if path in taken:
            continue
        place = names.place(path)
        if place is None:
            if names.places(path):
                findings.append(
                    finding("unplaced", "its name fits an image and a label; name its folder so", None, path)
                )
            continue
        first = tiles.setdefault(place.tile, {}).setdefault(place.kind, path)
        if first != path:
            findings.append(finding("found-twice", f"{first} is looked at for the same place", place.tile, path))
    ordered = {tile: tiles[tile] for tile in datasets.tiles(dataset.name) if tile in tiles}
    own = "{tile}" in dataset.image.files
    return Source(RawTree(folder, "folder" if own else "isprs", dataset, ordered), tuple(findings))


def _nothing(folder: Path, candidates: tuple[str, ...]) -> str:
    if any(folder.rglob("*.zip")):
        return f"{folder}: holds archives, but no file of {' or '.join(candidates)}; run `mobanet data import` first"
    examples = filter(None, (next(Names(datasets.dataset(name)).examples(), None) for name in candidates))
    return f"{folder}: holds no file of {' or '.join(candidates)}; looked for names like {', '.join(examples)}"
