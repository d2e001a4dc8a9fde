"""Generated tiles for the benchmarks: a store, and GeoTIFFs with the same pixels. The pixels are noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine

from components.common.data import datasets
from components.common.data.store import Heights, Manifest, Store, Tile, TileEntry, write_manifest, write_tile
from components.common.pool import pooled
from components.common.progress import track

GSD_M = 0.05


@dataclass(frozen=True, slots=True)
class _Job:
    folder: Path
    number: int
    side_px: int
    tiffs: bool


def raster(folder: Path, number: int, layer: str) -> Path:
    """The GeoTIFF of one layer (`image`, `dsm`, `label`) of tile `number`."""
    return folder / f"{number}_{layer}.tif"


def make_store(folder: Path, tiles: int, side_px: int, *, tiffs: int) -> Store:
    """Create a store of `tiles` training tiles in `folder`, and GeoTIFFs of the first `tiffs` tiles next to it."""
    jobs = [_Job(folder, number, side_px, number < tiffs) for number in range(tiles)]
    entries = tuple(track(pooled(_make_tile, jobs, 0), "generating tiles", tiles))
    dataset = datasets.dataset("sample")
    manifest = Manifest(
        dataset=dataset.name,
        source="sample",
        split="bench",
        classes=tuple(c.name for c in dataset.classes),
        in_means=tuple(c.in_means for c in dataset.classes),
        palette=tuple(c.rgb for c in dataset.classes),
        bands=dataset.image.bands,
        image_range=dataset.image.range,
        image_mean=dataset.image.mean,
        image_std=dataset.image.std,
        gsd_m=GSD_M,
        heights=Heights("per-tile", None, None, None, (2.0, 98.0), (-0.5, 2.0), "datum"),
        acknowledgement=dataset.acknowledgement,
        tool_version="bench",
        tiles=entries,
    )
    write_manifest(folder, manifest)
    return Store(folder)


def _make_tile(job: _Job) -> TileEntry:
    rng = np.random.default_rng(job.number)
    shape = (job.side_px, job.side_px)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    dsm = rng.random(shape, dtype=np.float32)
    label = rng.integers(0, 6, shape, dtype=np.uint8)
    file = f"{job.number}.arrow"
    write_tile(job.folder / file, Tile(image, dsm, label, label))
    transform = Affine(GSD_M, 0, 0, 0, -GSD_M, 0)
    if job.tiffs:
        _write_tiff(raster(job.folder, job.number, "image"), image.transpose(2, 0, 1), transform)
        _write_tiff(raster(job.folder, job.number, "dsm"), dsm[None], transform)
        _write_tiff(raster(job.folder, job.number, "label"), label[None], transform)
    return TileEntry(
        id=str(job.number),
        subset="train",
        file=file,
        height_px=job.side_px,
        width_px=job.side_px,
        crs="EPSG:32633",
        transform=tuple(transform)[:6],
        class_px=tuple(np.bincount(label.ravel(), minlength=6).tolist()),
        ignored_px=0,
        snapped_px=0,
        unknown_px=0,
        dsm_missing_share=0.0,
        notes=(),
        sources={},
    )


def _write_tiff(path: Path, pixels_BHW: npt.NDArray[Any], transform: Affine) -> None:
    """Write blocks of 256 px, pixel-interleaved and uncompressed: the fastest layout for reading windows."""
    bands, height, width = pixels_BHW.shape
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "pixel"}
    profile = {"count": bands, "height": height, "width": width, "dtype": pixels_BHW.dtype, "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", **profile, **layout) as file:
        file.write(pixels_BHW)
