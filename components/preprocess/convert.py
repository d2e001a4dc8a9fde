"""One tile, from its raw files to its file in the store and its entry in the manifest; run in a worker process.

A tile goes through in bands of rows, so that no layer of it is ever held completely. An image that it does not have is
stored as zeros, a DSM as NaN. Heights and pictures are processed in two threads, and checksums are computed in a third,
so that the processor has work while it waits for the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from rasterio import Affine

from components.common.data.datasets import Dataset, Subset
from components.common.data.height_scaling import Histogram, histogram, merged, scale_part, whole_ground
from components.common.data.local_ground import cell_size, cells_of
from components.common.data.rawtree import RawTree
from components.common.data.store import Heights, TileEntry
from components.common.files import digest
from components.common.readers.heights import HeightLayer
from components.common.readers.labels import LabelLayer
from components.common.readers.tiles import OpenTile, ReaderSettings, TileFiles, TileReader, open_tile
from components.preprocess.labelling import RADIUS_PX, class_counts, eroded
from components.preprocess.tilefile import Layer, TileFile, new_tile

Metres = npt.NDArray[np.float32]
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class TileJob:
    """What a process must know to make one tile."""

    raw: RawTree
    store: Path  # folder to write into
    tile: str
    subset: Subset
    heights: Heights
    settings: ReaderSettings

    @property
    def dataset(self) -> Dataset:
        """The data set."""
        return self.raw.dataset

    @property
    def files(self) -> TileFiles:
        """The raw files."""
        return tile_files(self.raw, self.tile)


def tile_files(raw: RawTree, tile: str) -> TileFiles:
    """The raw files of a tile, for the reader."""
    return TileFiles(raw.folder, raw.dataset, raw.source == "folder", tile, raw.tiles[tile])


def build_tile(job: TileJob) -> TileEntry:
    """Read, decode, scale and store one tile.

    Raises:
        DataError: a file is unreadable or contradicts the grid of the tile.
    """
    with ThreadPoolExecutor(1) as hashing, ExitStack() as files:
        names = job.files.inputs()
        sums = {name: hashing.submit(digest, job.raw.folder / name) for name in names}
        try:
            tile = open_tile(job.files, job.settings, files)
            path, bands = job.store / f"{job.tile}.arrow", len(job.dataset.image.bands)
            with (
                new_tile(path, tile.grid.height_px, tile.grid.width_px, bands) as out,
                ThreadPoolExecutor(1) as other,
            ):
                heights = other.submit(_write_heights, job, tile, out)
                class_px = _write_pictures(job, tile, out)
                heights.result()
                tile.finish()
            return _entry(job, tile, class_px, sums)
        finally:
            hashing.shutdown(wait=False, cancel_futures=True)


def count_heights(files: TileFiles, settings: ReaderSettings) -> Histogram:
    """Histogram of the measured heights of a tile that has a DSM, on the grid of the tile.

    Raises:
        DataError: the image or the heights cannot be used.
    """
    with ExitStack() as stack:
        reader = TileReader(files, settings, stack)
        if "rgb" in files.sensors:
            reader.image()
        dsm, bands = reader.dsm(), reader.bands()
        counted = merged(_first_pass(dsm, bands, histogram))
        reader.finish("dsm")
        return counted


def _first_pass(dsm: HeightLayer, bands: list[slice], about: Callable[[Metres], Part]) -> list[Part]:
    """What each band of rows tells; bands are read again while that reveals values that mark missing pixels."""
    while True:
        parts = [about(dsm.metres(rows)) for rows in bands]
        if not dsm.learned():
            dsm.restart()
            return parts


def _write_heights(job: TileJob, tile: OpenTile, out: TileFile) -> None:
    """Scale and write the DSM, which is read twice: for the ground or the range, and to scale it; NaN without one."""
    heights, gsd_m, bands, width_px = job.heights, job.dataset.gsd_m, tile.reader.bands(), tile.grid.width_px
    if tile.dsm is None:
        for rows in bands:
            out.write("dsm", rows.start, np.full((rows.stop - rows.start, width_px), np.nan, np.float32))
        return
    ground = whole = None
    if heights.ground_radius_m is not None:
        cells = np.concatenate(_first_pass(tile.dsm, bands, partial(cells_of, cell_px=cell_size(gsd_m))))
        ground = whole_ground(cells, gsd_m, heights.ground_radius_m)
    elif heights.offset_m is None:
        whole = merged(_first_pass(tile.dsm, bands, histogram))
    else:
        _first_pass(tile.dsm, bands, len)
    for rows in bands:
        dsm_hW = tile.dsm.metres(rows)
        scale_part(dsm_hW, rows, slice(0, width_px), heights, ground, whole)
        out.write("dsm", rows.start, dsm_hW)


def _write_pictures(job: TileJob, tile: OpenTile, out: TileFile) -> tuple[int, ...]:
    """Write image and labels; a new tile holds zeros where there is no image. Returns the pixels of each class."""
    counts = np.zeros(len(job.dataset.classes), np.int64)
    labels: dict[Layer, LabelLayer] = {"label": tile.label}
    if tile.eroded is not None:
        labels["eroded"] = tile.eroded
    for rows in tile.reader.bands():
        hidden_hW = None
        if tile.image is not None:
            image = tile.image.rows(rows)
            out.write("image", rows.start, image.image_hWC)
            hidden_hW = image.missing_hW
        for kind, label in labels.items():
            y_hW = label.rows(rows, hidden_hW).y_hW
            out.write(kind, rows.start, y_hW)
            if kind == "label":
                counts += class_counts(y_hW, len(counts))
    if tile.eroded is None:
        _write_eroded(tile, out)
    return tuple(counts.tolist())


def _write_eroded(tile: OpenTile, out: TileFile) -> None:
    """Make the eroded label from the one that was written."""
    for rows in tile.reader.bands():
        first, end = max(0, rows.start - RADIUS_PX), min(tile.grid.height_px, rows.stop + RADIUS_PX)
        y_hW = eroded(out.labels(first, end - first))
        out.write("eroded", rows.start, y_hW[rows.start - first : rows.stop - first])


def _entry(job: TileJob, tile: OpenTile, class_px: tuple[int, ...], sums: dict[str, Future[str]]) -> TileEntry:
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
        dsm_missing_share=1.0 if tile.dsm is None else tile.dsm.missing_px / size,
        notes=tuple(f"{job.files.paths[kind]}: {note.sentence}" for kind, note in tile.notes),
        sources={name: done.result() for name, done in sums.items()},
        sensors=job.files.sensors,
    )
