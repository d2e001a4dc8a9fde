"""One tile, from its four raw files to its file in the store and its entry in the manifest; run in a worker process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rasterio import Affine

from components.common.errors import DataError
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
    dsm_path = job.source("dsm")
    dsm = _read_dsm(dsm_path)
    grid = grid_of(image, dsm, parse_crs(job.crs))
    lacks = padding(dsm_path, dsm, grid, job.max_pad_px)
    dsm_HW = np.pad(_metres(dsm_path, dsm), lacks.sides(), mode="edge")
    notes = _notes(dsm_path, lacks, "by repeating the edge")
    label, label_notes = _read_label(job, "label", grid)
    eroded, eroded_notes = _read_label(job, "eroded", grid)
    tile = Tile(
        np.moveaxis(image.pixels_BHW, 0, -1),
        scaled(dsm_HW, job.heights, job.percentiles, job.dataset.gsd_m),
        label.y_HW,
        eroded.y_HW,
    )
    file = f"{job.tile}.arrow"
    write_tile(job.store / file, tile)
    return TileReport(_entry(job, file, tile, label, grid), (*notes, *label_notes, *eroded_notes))


def count_heights(dsm_path: Path) -> Histogram:
    """Histogram of the measured heights in a DSM file.

    Raises:
        DataError: the file is unreadable or empty.
    """
    return histogram(_metres(dsm_path, _read_dsm(dsm_path)))


def _read_dsm(path: Path) -> Raster:
    return read_raster(path, bands=1, dtypes=("float32", "float64"))


def _metres(path: Path, dsm: Raster) -> npt.NDArray[np.float32]:
    """Heights, NaN = not measured."""
    metres_HW = measured(dsm.pixels_BHW[0], dsm.missing_HW)
    if np.isnan(metres_HW).all():
        raise DataError(f"{path}: holds no height at all; copy or download it again")
    return metres_HW


def _read_label(job: TileJob, kind: FileKind, grid: Grid) -> tuple[Decoded, list[str]]:
    """Classes on the image's grid, and notes. Ground truth is never invented: a missing edge is ignored."""
    path = job.source(kind)
    picture = read_raster(path, bands=3, dtypes=("uint8",))
    lacks = padding(path, picture, grid, job.max_pad_px)
    rgb_HW3 = np.moveaxis(picture.pixels_BHW, 0, -1)
    decoded = decode(rgb_HW3)
    require_known(path, rgb_HW3, decoded, job.max_unknown_share)
    notes = _notes(path, lacks, f"with the label {IGNORE} (ignore)")
    if decoded.unknown_px:
        notes.append(f"{path}: {decoded.unknown_px} px have a colour of no class; ignored")
    return replace(decoded, y_HW=np.pad(decoded.y_HW, lacks.sides(), constant_values=IGNORE)), notes


def _notes(path: Path, lacks: Padding, how: str) -> list[str]:
    if not lacks:
        return []
    sides = ", ".join(
        f"{getattr(lacks, side)} px at the {side}"
        for side in ("top", "bottom", "left", "right")
        if getattr(lacks, side)
    )
    return [f"{path}: smaller than the image; padded {sides} {how}"]


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
