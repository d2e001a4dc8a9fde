"""A folder -> the tiles in it: as imported, with its `dataset.json`, or as unpacked, recognised by file names."""

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
from components.common.rasterfiles.formats import FORMATS

GENERATED = "sample"
"""Its files have the names of Potsdam's, but never come without a `dataset.json`."""


@dataclass(frozen=True, slots=True)
class Source:
    """The tiles of a folder."""

    tree: RawTree
    findings: tuple[Finding, ...]  # about file names


def open_source(folder: Path, dataset_name: str | None) -> Source:
    """Find the tiles of a folder.

    Args:
        folder: as imported, or files in any folders below it.
        dataset_name: which data set it is; None: the one with the most files in the folder.

    Raises:
        DataError: the folder does not exist, it has no file of a data set, or several data sets are equally likely.
        ParamsError: there is no data set of this name.
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
    sources = [_by_names(folder, _likely_variants(name, found), found) for name in candidates]
    counts = [sum(len(files) for files in source.tree.tiles.values()) for source in sources]
    if not any(counts):
        raise DataError(_nothing(folder, candidates))
    best = [source for source, count in zip(sources, counts, strict=True) if count == max(counts)]
    if len(best) > 1:
        names = " or ".join(source.tree.dataset.name for source in best)
        raise DataError(f"{folder}: could be {names}; choose one with --dataset")
    return best[0]


def _pictures(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.suffix.lower() in FORMATS and path.is_file():
            yield path.relative_to(folder).as_posix()


def _likely_variants(name: str, found: list[str]) -> Dataset:
    """The data set in the variants that have the most files; the first listed if two have as many."""
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


def _by_names(folder: Path, dataset: Dataset, found: list[str]) -> Source:
    """Assign every file to a tile and kind, by its path, else by its name."""
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
                findings.append(finding("unplaced", "its name fits an image and a label", None, path))
            continue
        first = tiles.setdefault(place.tile, {}).setdefault(place.kind, path)
        if first != path:
            findings.append(finding("found-twice", f"{first} is used for the same layer", place.tile, path))
    ordered = {tile: tiles[tile] for tile in datasets.tiles(dataset.name) if tile in tiles}
    own = "{tile}" in dataset.image.files
    return Source(RawTree(folder, "folder" if own else "isprs", dataset, ordered), tuple(findings))


def _nothing(folder: Path, candidates: tuple[str, ...]) -> str:
    if any(folder.rglob("*.zip")):
        return f"{folder}: holds archives, but no file of {' or '.join(candidates)}; run `mobanet data import` first"
    examples = filter(None, (next(Names(datasets.dataset(name)).examples(), None) for name in candidates))
    return f"{folder}: holds no file of {' or '.join(candidates)}; looked for names like {', '.join(examples)}"
