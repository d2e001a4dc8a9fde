"""One tile, from its four raw files to its file in the store and its line in the manifest. Runs in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rasterio import Affine

from components.common.files import digest
from components.common.isprs import IGNORE, Dataset, FileKind, Subset, classes
from components.common.rasters import Raster, parse_crs, read_raster
from components.common.store import Heights, Tile, TileEntry, write_tile
from components.preprocess.heights import Histogram, histogram, measured, scaled
from components.preprocess.labels import Decoded, decode, require_known
from components.preprocess.pairs import KINDS, Grid, Padding, grid_of, padding


@dataclass(frozen=True, slots=True)
class TileJob:
    """All that a process must know to make one tile."""

    raw: Path
    store: Path  # folder to write into
    dataset: Dataset
    tile: str
    subset: Subset
    crs: str  # of files that carry none
    heights: Heights
    percentiles: tuple[float, float]
    max_unknown_share: float
    max_pad_px: int

    def source(self, kind: FileKind) -> Path:
        """A raw file."""
        return self.raw / self.dataset.path(kind, self.tile)


@dataclass(frozen=True, slots=True)
class TileReport:
    """What became of a tile."""

    entry: TileEntry
    notes: tuple[str, ...]  # what a user should know: padded edges, ignored colours


def build_tile(job: TileJob) -> TileReport:
    """Read, check, decode, scale and store one tile.

    Raises:
        DataError: a file is unreadable or contradicts the image.
    """
    image = read_raster(job.source("image"), bands=len(job.dataset.bands), dtypes=("uint8",))
    dsm, grid, lacks = _read_dsm(job, image)
    notes = _padding_note(job.source("dsm"), lacks, "by repeating the edge")
    label, more = _read_label(job, "label", grid)
    eroded, even_more = _read_label(job, "eroded", grid)
    tile = Tile(
        np.moveaxis(image.pixels_BHW, 0, -1),
        scaled(np.pad(dsm, lacks.sides(), mode="edge"), job.heights, job.percentiles, job.dataset.gsd_m),
        label.y_HW,
        eroded.y_HW,
    )
    file = f"{job.tile}.arrow"
    write_tile(job.store / file, tile)
    return TileReport(_entry(job, file, tile, label, grid), notes + more + even_more)


def count_heights(job: TileJob) -> Histogram:
    """Histogram of the measured heights of a tile.

    Raises:
        DataError: the DSM is unreadable or empty.
    """
    return histogram(_heights_of(job.source("dsm"), _open_dsm(job)))


def _open_dsm(job: TileJob) -> Raster:
    return read_raster(job.source("dsm"), bands=1, dtypes=("float32", "float64"))


def _entry(job: TileJob, file: str, tile: Tile, label: Decoded, grid: Grid) -> TileEntry:
    counts = np.bincount(label.y_HW.ravel(), minlength=IGNORE + 1)
    return TileEntry(
        id=job.tile,
        subset=job.subset,
        file=file,
        height_px=grid.height_px,
        width_px=grid.width_px,
        crs=grid.crs.to_string(),
        transform=tuple((grid.transform or Affine.scale(job.dataset.gsd_m, -job.dataset.gsd_m))[:6]),
        class_px=tuple(counts[: len(classes())].tolist()),
        ignored_px=int(counts[IGNORE]),
        snapped_px=label.snapped_px,
        unknown_px=label.unknown_px,
        dsm_missing_share=float(np.isnan(tile.dsm_HW).mean()),
        sources={job.dataset.path(kind, job.tile): digest(job.source(kind)) for kind in KINDS},
    )
