"""Raw tiles -> the store: decoded labels, scaled heights, one Arrow file per tile, a manifest; resumable."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from components.common.data import datasets
from components.common.data.config import Accepted
from components.common.data.datasets import KINDS, Dataset, FileKind, Split
from components.common.data.height_scaling import merged
from components.common.data.rawtree import RawTree, read_raw_tree
from components.common.data.store import Heights, Manifest, TileEntry, write_manifest
from components.common.errors import DataError
from components.common.files import begun_folder, resuming_folder
from components.common.params import STRICT, Processes, Share
from components.common.pool import pooled
from components.common.progress import track
from components.common.readers.tiles import ReaderSettings
from components.common.tracking.provenance import tool_version
from components.preprocess.convert import TileJob, count_heights, tile_files
from components.preprocess.croissant import write_croissant
from components.preprocess.finished import build_and_note, finished, keep_only, remove_notes
from components.preprocess.height_settings import HeightsConfig, as_recorded

log = logging.getLogger(__name__)


@checked_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class PreprocessConfig:
    """Section `preprocess` of params.yaml."""

    heights: HeightsConfig  # how metres become the DSM of the store
    max_unknown_share: Share  # share of label pixels of no class that is ignored
    max_pad_px: Annotated[int, Field(ge=0, le=4096)]  # how much a layer may lack at an edge of the image, pixels
    workers: Processes  # processes; 0: one per core

    def reader(self, accept: Accepted | None = None) -> ReaderSettings:
        """Settings of the reader."""
        return ReaderSettings(self.max_pad_px, self.max_unknown_share, accept or Accepted())


@dataclass(frozen=True, slots=True)
class PreprocessResult:
    """A finished store."""

    manifest: Manifest
    data_md5: str  # the data version


def run(
    config: PreprocessConfig, split: str, raw: Path, store: Path, accept: Accepted | None = None
) -> PreprocessResult:
    """Make the store; after an interruption, continue with the tiles that are missing.

    Args:
        config: the settings.
        split: a split of the data set that lies in `raw`.
        raw: folder of the acquire step.
        store: folder to write; an earlier store there stays until the new one is complete.
        accept: findings that the user has overruled.

    Raises:
        DataError: raw tiles are missing, unreadable or contradict each other; finished tiles are used by the next run.
        ParamsError: the data set has no split of this name.
    """
    tree = read_raw_tree(raw)
    return make_store(config, datasets.split(tree.dataset.name, split), tree, store, accept)


def make_store(
    config: PreprocessConfig,
    split: Split,
    tree: RawTree,
    store: Path,
    accept: Accepted | None = None,
    heights: Heights | None = None,
) -> PreprocessResult:
    """Make the store of any split; errors as with `run`.

    Args:
        config: the settings.
        split: which tiles.
        tree: the raw tiles.
        store: folder for the store.
        accept: findings that the user has overruled.
        heights: the scaling of a trained model; None: as `config` describes.
    """
    require_files(tree, split)
    settings = config.reader(accept)
    heights = heights or _fit_heights(config, settings, tree, split.train)
    with resuming_folder(store) as draft:
        jobs = _jobs(settings, tree, split, heights, draft, split.tiles)
        keep_only(draft, [job.tile for job in jobs if finished(job)])
        manifest = _manifest(tree, split, heights, settings, _build(jobs, config.workers))
        write_manifest(draft, manifest)
        remove_notes(draft, split.tiles)
        write_croissant(draft, manifest, config.workers)
    _log_table(manifest)
    return PreprocessResult(manifest, manifest.data_md5)


def run_shard(
    config: PreprocessConfig, split: str, raw: Path, store: Path, tiles: Sequence[str], accept: Accepted | None = None
) -> None:
    """Make some tiles of the store while other processes make the rest; `run` then finds them finished.

    Args:
        config: the settings.
        split: a split of the data set that lies in `raw`.
        raw: folder of the acquire step.
        store: folder that `run` will write.
        tiles: ids of the split.
        accept: findings that the user has overruled.

    Raises:
        DataError: as with `run`.
        ParamsError: the data set has no split of this name.
    """
    tree = read_raw_tree(raw)
    all_tiles = datasets.split(tree.dataset.name, split)
    require_files(tree, all_tiles)
    settings = config.reader(accept)
    heights = _fit_heights(config, settings, tree, all_tiles.train)
    _build(_jobs(settings, tree, all_tiles, heights, begun_folder(store), tiles), config.workers)


def require_files(tree: RawTree, split: Split) -> None:
    """Check that every tile of a split has its labels, an image or a DSM, and every file that acquire has found.

    Raises:
        DataError: files are missing; the sentence names the first one and counts all.
    """
    wanted = [(tile, kind) for tile in split.tiles for kind in _needed(tree, tile)]
    missing = [(tile, kind) for tile, kind in wanted if not ((path := tree.file(tile, kind)) and path.is_file())]
    if missing:
        tile, kind = missing[0]
        raise DataError(
            f"{tree.folder / (tree.dataset.path(kind, tile) or '')}: no such file, needed for tile {tile}; of the "
            f"{len(wanted)} files of the split {split.name}, {len(missing)} are missing: run the acquire step again or "
            "choose another data.split"
        )


def _needed(tree: RawTree, tile: str) -> list[FileKind]:
    """Kinds of files that a tile must have: an image or a DSM may be left out, but not both."""
    listed = {*tree.tiles.get(tile, ()), *tree.unreadable.get(tile, ())}
    sensors = tree.sensors(tile)
    kinds = [kind for kind in KINDS if tree.dataset.pattern(kind) is not None]
    return [kind for kind in kinds if kind in listed or kind in ("label", "eroded") or not sensors]


def _fit_heights(config: PreprocessConfig, settings: ReaderSettings, tree: RawTree, training: Sequence[str]) -> Heights:
    """Determine offset and scale; `training-range` reads the heights under the training tiles, and no others.

    Raises:
        DataError: `training-range`, and no training tile has a DSM.
    """
    dsm = tree.dataset.dsm
    if config.heights.method != "training-range":
        return as_recorded(config.heights, dsm, None)
    files = [tile_files(_only(tree, tile), tile) for tile in training if "dsm" in tree.sensors(tile)]
    if not files:
        raise DataError(
            f"{tree.folder}: no training tile has a DSM, from which preprocess.heights.method training-range takes its "
            "range; set it to above-ground, or choose another data.split"
        )
    counted = pooled(partial(count_heights, settings=settings), files, config.workers)
    fitted = as_recorded(config.heights, dsm, merged(track(counted, "heights of the training tiles", len(files))))
    log.info("heights: %.2f m becomes 0, %.2f m more becomes 1", fitted.offset_m, fitted.scale_m)
    return fitted


def _jobs(
    settings: ReaderSettings, tree: RawTree, split: Split, heights: Heights, draft: Path, tiles: Sequence[str]
) -> list[TileJob]:
    return [
        TileJob(
            raw=_only(tree, tile),
            store=draft,
            tile=tile,
            subset=split.subset_of(tile),
            heights=heights,
            settings=settings,
        )
        for tile in tiles
    ]


def _only(tree: RawTree, *tiles: str) -> RawTree:
    """What a process must know of the raw tiles."""
    return RawTree(tree.folder, tree.source, tree.dataset, {tile: tree.tiles[tile] for tile in tiles})


def _build(jobs: Sequence[TileJob], workers: int) -> tuple[TileEntry, ...]:
    """Make all tiles that are not finished; entries come in the order of the jobs, however many work on them."""
    entries = {job.tile: entry for job in jobs if (entry := finished(job))}
    missing = [job for job in jobs if job.tile not in entries]
    if entries:
        log.info("preprocess: %d of %d tiles are finished already", len(entries), len(jobs))
    for entry in track(pooled(build_and_note, missing, workers), "preprocess", len(missing)):
        entries[entry.id] = entry
    ordered = tuple(entries[job.tile] for job in jobs)
    for entry in ordered:
        for note in entry.notes:
            log.warning("%s", note)
    return ordered


def _manifest(
    tree: RawTree, split: Split, heights: Heights, settings: ReaderSettings, tiles: tuple[TileEntry, ...]
) -> Manifest:
    dataset = tree.dataset
    return Manifest(
        dataset=dataset.name,
        source=tree.source,
        split=split.name,
        classes=tuple(c.name for c in dataset.classes),
        in_means=tuple(c.in_means for c in dataset.classes),
        palette=tuple(c.rgb for c in dataset.classes),
        bands=dataset.image.bands,
        image_range=dataset.image.range,
        image_mean=dataset.image.mean,
        image_std=dataset.image.std,
        gsd_m=dataset.gsd_m,
        heights=heights,
        accepted=settings.accept.codes,
        reading=_reading(dataset, settings),
        acknowledgement=dataset.acknowledgement,
        tool_version=tool_version(),
        tiles=tiles,
    )


def _reading(dataset: Dataset, settings: ReaderSettings) -> dict[str, Any]:
    """The settings that shape pixels and have no field of their own in the manifest."""
    facts = asdict(dataset)
    layers = {kind: _without_places(facts[kind]) for kind in KINDS if facts[kind]}
    values = tuple(c.value for c in dataset.classes)
    return layers | {
        "crs": dataset.crs,
        "labels": dataset.labels,
        "values": values,
        "max_pad_px": settings.max_pad_px,
    }


def _without_places(layer: dict[str, Any]) -> dict[str, Any]:
    """The facts of a layer without its path pattern; marks as text, because they may be NaN."""
    marks = {key: tuple(map(str, layer[key])) for key in ("nodata", "ignore") if layer.get(key) is not None}
    return {key: value for key, value in layer.items() if key != "files"} | marks


def _log_table(manifest: Manifest) -> None:
    """Log one line per tile: its classes, how many pixels were repaired or ignored, and a sensor that it lacks."""
    widths = [max(9, len(name) + 1) for name in manifest.classes]
    names = "".join(f"{name:>{width}}" for name, width in zip(manifest.classes, widths, strict=True))
    ids = max(8, *(len(tile.id) + 2 for tile in manifest.tiles))
    log.info("%-*s%-6s%13s  %s  snapped px  unknown px  DSM missing", ids, "tile", "subset", "size, px", names)
    for tile in manifest.tiles:
        labelled_px = max(1, sum(tile.class_px))
        shares = zip((100 * px / labelled_px for px in tile.class_px), widths, strict=True)
        log.info(
            "%-*s%-6s%5d x %-5d  %s%12d%12d%11.2f %%%s",
            ids,
            tile.id,
            tile.subset,
            tile.width_px,
            tile.height_px,
            "".join(f"{share:>{width - 2}.1f} %" for share, width in shares),
            tile.snapped_px,
            tile.unknown_px,
            100 * tile.dsm_missing_share,
            "" if "rgb" in tile.sensors else ", no image",
        )
