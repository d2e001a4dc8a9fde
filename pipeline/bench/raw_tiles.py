"""Generated raw tiles for benchmarks, in Potsdam's layout and size: relief, blocks of classes, noise. 1 s per tile."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio import Affine
from rasterio.windows import Window

from components.common.data.datasets import KINDS, Dataset, FileKind, dataset
from components.common.data.rawtree import RawTree
from components.common.pool import pooled
from components.common.progress import track

BLOCK_PX = 50
BAND_PX = 10 * BLOCK_PX
HEIGHTS_M = np.array([0.0, 9.0, 0.2, 6.0, 1.5, 0.7], np.float32)
BYTES_PER_PX: dict[FileKind, int] = {"image": 3, "dsm": 4, "label": 3, "eroded": 3}


@dataclass(frozen=True, slots=True)
class CityTile:
    """One tile to generate."""

    folder: Path
    tile: str
    side_px: int


def raw_tree(folder: Path, tiles: int) -> RawTree:
    """The raw tree of `tiles` tiles; the files need not exist yet."""
    potsdam = dataset("potsdam")
    ids = [f"{row}_{column}" for row, column in (divmod(n, 10) for n in range(10, 10 + tiles))]
    return RawTree(folder, "isprs", potsdam, {tile: _files(potsdam, tile) for tile in ids})


def make(tree: RawTree, side_px: int) -> None:
    """Generate the tiles that do not exist in this size, on all cores, and flush them to disk."""
    jobs = [CityTile(tree.folder, tile, side_px) for tile in tree.tiles]
    for _ in track(pooled(write_tile, jobs, 0), "generating tiles", len(jobs)):
        pass


def write_tile(job: CityTile) -> None:
    """Write the four files of one tile, uncompressed, unless they exist."""
    potsdam = dataset("potsdam")
    paths = {kind: job.folder / name for kind, name in _files(potsdam, job.tile).items()}
    if all(path.exists() and path.stat().st_size >= job.side_px**2 * BYTES_PER_PX[k] for k, path in paths.items()):
        return
    rng = np.random.default_rng(zlib.crc32(job.tile.encode()))
    classes = rng.integers(0, len(potsdam.classes), (-(-job.side_px // BLOCK_PX),) * 2)
    noise = rng.normal(0, 0.05, (BAND_PX, job.side_px)).astype(np.float32)
    texture = rng.integers(-20, 21, (BAND_PX, job.side_px, 3), np.int16)
    files = {kind: _create(path, kind, job.side_px) for kind, path in paths.items()}
    for first in range(0, job.side_px, BAND_PX):
        rows = slice(first, min(first + BAND_PX, job.side_px))
        y_hW = _enlarged(classes, rows, job.side_px)
        turn = int(rng.integers(job.side_px))
        for kind, layer_hWC in _layers(y_hW, rows, np.roll(noise, turn, 1), texture, potsdam.palette).items():
            window = Window(0, first, job.side_px, rows.stop - first)
            files[kind].write(np.moveaxis(layer_hWC[: rows.stop - first], -1, 0), window=window)
    for file in files.values():
        file.close()
    for path in paths.values():
        with path.open("rb") as written:
            os.fsync(written.fileno())


def _layers(
    y_hW: npt.NDArray[np.intp],
    rows: slice,
    noise: npt.NDArray[np.float32],
    texture: npt.NDArray[np.int16],
    palette: npt.NDArray[np.uint8],
) -> dict[FileKind, npt.NDArray[np.generic]]:
    """A band of rows of every layer, `[h, W, C]`."""
    height, width = y_hW.shape
    down, along = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    relief = 40 + 3 * np.sin(down / 900) + 2 * np.cos(along / 700)
    dsm_hW = relief + HEIGHTS_M[y_hW] + noise[:height]
    label_hWC = palette[y_hW]
    shaded = np.clip(label_hWC // 2 + 60 + texture[:height], 0, 255).astype(np.uint8)
    eroded_hWC = label_hWC.copy()
    for px in range(3):
        eroded_hWC[(down[:, 0] % BLOCK_PX) == px] = 0
        eroded_hWC[:, (along % BLOCK_PX) == px] = 0
    return {"image": shaded, "dsm": dsm_hW[..., None], "label": label_hWC, "eroded": eroded_hWC}


def _enlarged(classes: npt.NDArray[np.int64], rows: slice, width: int) -> npt.NDArray[np.intp]:
    blocks = classes[np.arange(rows.start, rows.stop) // BLOCK_PX]
    return np.repeat(blocks, BLOCK_PX, axis=1)[:, :width]


def _create(path: Path, kind: FileKind, side_px: int) -> rasterio.io.DatasetWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, dtype = (1, "float32") if kind == "dsm" else (3, "uint8")
    size = {"height": side_px, "width": side_px, "count": bands, "dtype": dtype, "interleave": "pixel"}
    place = {"crs": "EPSG:32633", "transform": Affine(0.05, 0, 366000, 0, -0.05, 5807000)}
    return rasterio.open(path, "w", "GTiff", **size, **place)


def _files(potsdam: Dataset, tile: str) -> dict[FileKind, str]:
    return {kind: name for kind in KINDS if (name := potsdam.path(kind, tile)) is not None}
