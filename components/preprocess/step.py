"""Raw tiles in the ISPRS layout -> the store: decoded labels, scaled heights, one Arrow file per tile, a manifest."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from components.common import isprs
from components.common.errors import DataError
from components.common.files import digest, replacing_folder
from components.common.isprs import Dataset, DatasetName, Split
from components.common.pool import pooled
from components.common.progress import track
from components.common.provenance import tool_version
from components.common.rasters import parse_crs
from components.common.store import MANIFEST, Heights, Manifest, TileEntry, write_manifest
from components.preprocess.heights import HeightsConfig, as_recorded, merged
from components.preprocess.pairs import require_files
from components.preprocess.tiles import TileJob, build_tile, count_heights

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessConfig:
    """Section `preprocess` of params.yaml."""

    split: str  # a split of the data set, by its name in isprs.yaml
    heights: HeightsConfig  # how metres become the DSM of the store
    max_unknown_share: float  # share of label pixels with a colour of no class that is ignored, 0..1
    max_pad_px: int  # how much a layer may lack at an edge of the image, pixels, >= 0
    workers: int  # processes, each with one tile in memory; 0: one per core

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.max_unknown_share <= 1:
            raise ValueError(f"max_unknown_share is {self.max_unknown_share}; expected a share in 0..1")
        for key in ("max_pad_px", "workers"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key} is {getattr(self, key)}; expected a whole number >= 0")


@dataclass(frozen=True, slots=True)
class PreprocessResult:
    """A finished store."""

    manifest: Manifest
    data_md5: str  # the data version


@dataclass(frozen=True, slots=True)
class Source:
    """Where raw tiles come from, as the acquire step wrote it down."""

    name: str  # "sample" or "isprs"
    dataset: Dataset
    crs: str  # of files that carry none


def run(config: PreprocessConfig, raw: Path, store: Path) -> PreprocessResult:
    """Make the store.

    Args:
        config: the settings.
        raw: folder of the acquire step.
        store: folder to write; an earlier store there stays until the new one is whole.

    Raises:
        DataError: raw tiles are missing, unreadable or contradict each other.
        ParamsError: the data set has no split of this name.
    """
    source = read_source(raw)
    split = isprs.split(source.dataset.name, config.split)
    require_files(raw, source.dataset, split)
    heights = _fit_heights(config, [raw / source.dataset.path("dsm", tile) for tile in split.train])
    with replacing_folder(store) as draft:
        jobs = [
            TileJob(
                raw=raw,
                store=draft,
                dataset=source.dataset,
                tile=tile,
                subset=split.subset_of(tile),
                crs=source.crs,
                heights=heights,
                percentiles=config.heights.percentiles,
                max_unknown_share=config.max_unknown_share,
                max_pad_px=config.max_pad_px,
            )
            for tile in split.tiles
        ]
        manifest = _manifest(source, split, heights, _build(jobs, config.workers))
        write_manifest(draft, manifest)
    _log_table(manifest)
    return PreprocessResult(manifest, digest(store / MANIFEST, "md5"))


def read_source(raw: Path) -> Source:
    """What acquire wrote beside the tiles.

    Raises:
        DataError: it is missing or damaged.
    """
    path = raw / "source.json"
    try:
        content = json.loads(path.read_text())
        name, dataset, crs = (content[key] for key in ("source", "dataset", "crs"))
        if name not in ("sample", "isprs") or dataset not in get_args(DatasetName):
            raise ValueError(f"source {name!r}, dataset {dataset!r}")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run the acquire step first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); run the acquire step again") from None
    parse_crs(crs)
    return Source(name, isprs.dataset(cast(DatasetName, dataset)), crs)


def _fit_heights(config: PreprocessConfig, training: Sequence[Path]) -> Heights:
    """Settle offset and scale; for them, `training-range` reads the DSMs of the training tiles, and no others."""
    if config.heights.method != "training-range":
        return as_recorded(config.heights, None)
    counted = pooled(count_heights, training, config.workers)
    fitted = as_recorded(config.heights, merged(track(counted, "heights of the training tiles", len(training))))
    log.info("heights: %.2f m becomes 0, %.2f m more becomes 1", fitted.offset_m, fitted.scale_m)
    return fitted


def _build(jobs: Sequence[TileJob], workers: int) -> tuple[TileEntry, ...]:
    """Make all tiles; entries come in the order of the jobs, however many work on them."""
    entries = []
    for report in track(pooled(build_tile, jobs, workers), "preprocess", len(jobs)):
        entries.append(report.entry)
        for note in report.notes:
            log.warning("%s", note)
    return tuple(entries)


def _manifest(source: Source, split: Split, heights: Heights, tiles: tuple[TileEntry, ...]) -> Manifest:
    classes = isprs.classes()
    return Manifest(
        dataset=source.dataset.name,
        source=source.name,
        split=split.name,
        classes=tuple(c.name for c in classes),
        in_means=tuple(c.in_means for c in classes),
        palette=tuple(c.rgb for c in classes),
        bands=source.dataset.bands,
        gsd_m=source.dataset.gsd_m,
        heights=heights,
        acknowledgement=isprs.acknowledgement("sample" if source.name == "sample" else source.dataset.name),
        tool_version=tool_version(),
        tiles=tiles,
    )


def _log_table(manifest: Manifest) -> None:
    """One line per tile: what is in it, and what had to be mended."""
    widths = [max(9, len(name) + 1) for name in manifest.classes]
    names = "".join(f"{name:>{width}}" for name, width in zip(manifest.classes, widths, strict=True))
    log.info("%-8s%-6s%13s  %s  snapped px  unknown px  DSM missing", "tile", "subset", "size, px", names)
    for tile in manifest.tiles:
        labelled_px = max(1, sum(tile.class_px))
        shares = zip((100 * px / labelled_px for px in tile.class_px), widths, strict=True)
        log.info(
            "%-8s%-6s%5d x %-5d  %s%12d%12d%11.2f %%",
            tile.id,
            tile.subset,
            tile.width_px,
            tile.height_px,
            "".join(f"{share:>{width - 2}.1f} %" for share, width in shares),
            tile.snapped_px,
            tile.unknown_px,
            100 * tile.dsm_missing_share,
        )
