"""One tile, from its raw files to its file in the store and its entry in the manifest; run in a worker process.

A tile goes through in bands of rows, so that no layer of it is ever held. Heights and pictures go through side by side,
and checksums are computed meanwhile, so that the processor has work while the disk is waited for.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio import Affine

from components.common.data.datasets import Dataset, FileKind, Subset
from components.common.data.heights import cell_size, cells_of, ground_of, histogram, merged, scale_rows
from components.common.data.labels import legend_of
from components.common.data.rawtree import RawTree
from components.common.data.store import Heights, TileEntry
from components.common.errors import DataError
from components.common.files import digest
from components.common.readers.grids import grid_of
from components.common.readers.rasters import Grid, RasterFile, open_raster, parse_crs
from components.preprocess.image import DTYPES, image_rows
from components.preprocess.labelling import RADIUS_PX, LabelReader, class_counts, eroded
from components.preprocess.layers import Layer, bands_of, dsm_dtypes, fit
from components.preprocess.tilefile import TileFile, new_tile


@dataclass(frozen=True, slots=True)
class TileJob:
    """All that a process must know to make one tile."""

    raw: RawTree
    store: Path  # folder to write into
    tile: str
    subset: Subset
    heights: Heights
    max_unknown_share: float
    max_pad_px: int

    @property
    def dataset(self) -> Dataset:
        """The data set."""
        return self.raw.dataset

    def source(self, kind: FileKind) -> Path:
        """A raw file that is known to be there."""
        return self.raw.folder / self.name(kind)

    def name(self, kind: FileKind) -> str:
        """Its path below the raw folder."""
        return self.raw.tiles[self.tile][kind]


@dataclass(frozen=True, slots=True)
class OpenTile:
    """The raw files of a tile, open."""

    grid: Grid
    image: RasterFile
    dsm: Layer
    label: LabelReader
    eroded: LabelReader | None  # None: it is made
    notes: list[str]  # what had to be mended; more is added on the way

    @property
    def readers(self) -> dict[FileKind, LabelReader]:
        """The label files that there are."""
        return {"label": self.label, "eroded": self.eroded} if self.eroded else {"label": self.label}

    def bands(self, multiple: int = 1) -> list[slice]:
        """Rows that go through at once, each but the last a multiple of so many."""
        return bands_of(self.grid, multiple)


def build_tile(job: TileJob) -> TileEntry:
    """Read, check, decode, scale and store one tile.

    Raises:
        DataError: a file is unreadable or contradicts the image.
    """
    with ThreadPoolExecutor(1) as beside, ExitStack() as files:
        names = sorted(job.raw.tiles[job.tile].values())
        sums = {name: beside.submit(digest, job.raw.folder / name) for name in names}
        try:
            tile = _open(job, files)
            path, bands = job.store / f"{job.tile}.arrow", len(job.dataset.image.bands)
            with (
                new_tile(path, tile.grid.height_px, tile.grid.width_px, bands) as out,
                ThreadPoolExecutor(1) as other,
            ):
                missing_px = other.submit(_write_heights, job, tile, out)
                class_px = _write_pictures(job, tile, out)
            return _entry(job, tile, missing_px.result(), class_px, sums)
        finally:
            beside.shutdown(wait=False, cancel_futures=True)


def _open(job: TileJob, files: ExitStack) -> OpenTile:
    """Open the raw files and find out how they lie on the image's grid; `files` closes them."""
    dataset, own, legend = job.dataset, job.raw.source == "folder", legend_of(job.dataset)
    notes: list[str] = []

    def opened(kind: FileKind, bands: int, dtypes: Collection[str], alpha: bool = False) -> RasterFile:
        return files.enter_context(open_raster(job.source(kind), bands=bands, dtypes=dtypes, alpha=alpha))

    def layer(kind: FileKind, file: RasterFile, how: str) -> Layer:
        place = fit(file, grid, job.name(kind), max_pad_px=job.max_pad_px, warp=own)
        if place.note:
            notes.append(f"{place.note} {how}" if place.lacks else place.note)
        return Layer(file, place, dataset.dsm.unit_m if kind == "dsm" else 1.0)

    def labels(kind: FileKind) -> LabelReader:
        file = opened(kind, legend.bands, legend.dtypes, alpha=own)
        return LabelReader(layer(kind, file, "with the label 255 (ignore)"), legend)

    image = opened("image", len(dataset.image.bands), DTYPES if own else ("uint8",), alpha=own)
    dsm = opened("dsm", 1, dsm_dtypes(dataset.dsm, own))
    grid = grid_of(image.grid, dsm.grid, parse_crs(dataset.crs) if dataset.crs else None)
    heights = layer("dsm", dsm, "by repeating the edge")
    label, eroded_label = labels("label"), labels("eroded") if dataset.eroded is not None else None
    return OpenTile(grid, image, heights, label, eroded_label, notes)


def _write_heights(job: TileJob, tile: OpenTile, out: TileFile) -> int:
    """Scale and write the DSM, read twice: for the ground or the range, and to scale it. Returns unmeasured pixels."""
    heights, gsd_m = job.heights, job.dataset.gsd_m
    ground = whole = None
    cell_px = cell_size(gsd_m)
    bands = tile.bands(cell_px)
    if heights.ground_radius_m is not None:
        cells = np.concatenate([cells_of(tile.dsm.metres(rows), cell_px) for rows in bands])
        ground = ground_of(cells, tile.grid.width_px, gsd_m, heights.ground_radius_m)
    elif heights.offset_m is None:
        whole = merged(histogram(tile.dsm.metres(rows)) for rows in bands)
    missing_px = 0
    for rows in bands:
        dsm_hW = tile.dsm.metres(rows)
        missing_px += int(np.count_nonzero(np.isnan(dsm_hW)))
        scale_rows(dsm_hW, rows.start, heights, ground, whole)
        out.write("dsm", rows.start, dsm_hW)
    if missing_px == tile.grid.height_px * tile.grid.width_px:
        raise DataError(f"{job.source('dsm')}: holds no height at all for tile {job.tile}; copy or download it again")
    return missing_px


def _write_pictures(job: TileJob, tile: OpenTile, out: TileFile) -> tuple[int, ...]:
    """Write image and labels. Returns the pixels of each class."""
    counts = np.zeros(len(job.dataset.classes), np.int64)
    hidden_px = 0
    for rows in tile.bands():
        image_hWC, hidden_hW = image_rows(tile.image, job.dataset.image, rows)
        out.write("image", rows.start, image_hWC)
        for kind, reader in tile.readers.items():
            y_hW = reader.rows(rows, hidden_hW)
            out.write(kind, rows.start, y_hW)
            if kind == "label":
                counts += class_counts(y_hW, len(counts))
        hidden_px += 0 if hidden_hW is None else int(np.count_nonzero(hidden_hW))
    if tile.eroded is None:
        _write_eroded(tile, out)
    if hidden_px:
        tile.notes.append(f"{job.name('image')}: {hidden_px} px hold no image; their labels are ignored")
    for kind, reader in tile.readers.items():
        reader.require_known(job.source(kind), tile.grid.height_px * tile.grid.width_px, job.max_unknown_share)
        if reader.unknown_px:
            tile.notes.append(f"{job.name(kind)}: {reader.unknown_px} px have a {reader.told_by} of no class; ignored")
    return tuple(counts.tolist())


def _write_eroded(tile: OpenTile, out: TileFile) -> None:
    """Make the eroded label from the one that was written."""
    for rows in tile.bands():
        first, end = max(0, rows.start - RADIUS_PX), min(tile.grid.height_px, rows.stop + RADIUS_PX)
        y_hW = eroded(out.labels(first, end - first))
        out.write("eroded", rows.start, y_hW[rows.start - first : rows.stop - first])


def _entry(
    job: TileJob, tile: OpenTile, missing_px: int, class_px: tuple[int, ...], sums: dict[str, Future[str]]
) -> TileEntry:
    grid, size = tile.grid, tile.grid.height_px * tile.grid.width_px
    return TileEntry(
        id=job.tile,
        subset=job.subset,
        file=f"{job.tile}.arrow",
        height_px=grid.height_px,
        width_px=grid.width_px,
        crs=grid.crs.to_string() if grid.crs else "",
        transform=tuple((grid.transform or Affine.scale(job.dataset.gsd_m, -job.dataset.gsd_m))[:6]),
        class_px=class_px,
        ignored_px=size - sum(class_px),
        snapped_px=tile.label.snapped_px,
        unknown_px=tile.label.unknown_px,
        dsm_missing_share=missing_px / size,
        notes=tuple(tile.notes),
        sources={name: done.result() for name, done in sums.items()},
    )
