"""The sample on disk: tiles of the generated city, made in a pool of processes, written as GeoTIFFs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine

from components.acquire.sample.canvas import DATASET, GSD_M
from components.acquire.sample.dsm import NODATA
from components.acquire.sample.label_pictures import coloured, eroded
from components.acquire.sample.tile import make_scene
from components.common.data import datasets
from components.common.data.datasets import FileKind
from components.common.data.rawtree import RawTree, write_raw_tree
from components.common.files import replacing
from components.common.pool import cores, pooled
from components.common.progress import track

BYTES_PER_PX = 250
"""Memory per process and pixel of its tile; all processes together may use half of the machine's memory."""


@dataclass(frozen=True, slots=True)
class TileJob:
    """One tile to make."""

    seed: int  # of the city
    tile: str
    side_px: int
    folder: Path


MOST_TILES = 25
"""Number of tiles of the largest sample: five rows and five columns."""


def sample_tiles(count: int) -> tuple[str, ...]:
    """Ids of a sample of so many tiles, 10..25: those of the split `sample`, then others in rows around them.

    A tile depends on its id and the seed alone, so a larger sample has the same first tiles.
    """
    first = datasets.split(DATASET.name, DATASET.name).tiles
    more = [f"{row}_{column}" for row in range(2, 7) for column in range(10, 15)]
    return (*first, *(tile for tile in more if tile not in first))[:count]


def write_city(seed: int, side_px: int, tiles: Sequence[str], folder: Path) -> RawTree:
    """Generate tiles below a folder.

    Args:
        seed: of the city.
        side_px: rows and columns of a tile.
        tiles: their ids.
        folder: gets the files, under their ISPRS names, and `dataset.json`.

    Raises:
        DataError: the machine has too little memory for tiles of this size.
    """
    jobs = [TileJob(seed, tile, side_px, folder) for tile in tiles]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    fitting = max(1, memory // 2 // (BYTES_PER_PX * side_px**2))
    workers = min(fitting, cores())
    made = track(pooled(write_tile, jobs, workers), "generating tiles", len(jobs))
    tree = RawTree(folder, "sample", DATASET, dict(made))
    write_raw_tree(tree)
    return tree


def write_tile(job: TileJob) -> tuple[str, dict[FileKind, str]]:
    """Generate one tile and write its four files; returns its id and their places below the folder."""
    scene = make_scene(job.seed, job.tile, job.side_px)
    layers: Mapping[FileKind, npt.NDArray[np.generic]] = {
        "image": scene.image_HW3,
        "dsm": np.where(np.isnan(scene.dsm_HW), np.float32(NODATA), scene.dsm_HW)[..., None],
        "label": coloured(scene.label_HW),
        "eroded": eroded(scene.label_HW),
    }
    places = {kind: place for kind in layers if (place := DATASET.path(kind, job.tile))}
    for kind, place in places.items():
        _write(job.folder / place, np.moveaxis(layers[kind], -1, 0), scene.east_m, scene.north_m)
    return job.tile, places


def _write(path: Path, pixels_BHW: npt.NDArray[np.generic], east_m: float, north_m: float) -> None:
    """Write a tiled GeoTIFF with deflate compression; float files declare `NODATA`."""
    bands, height, width = pixels_BHW.shape
    heights = pixels_BHW.dtype == np.float32
    kind = {"nodata": NODATA, "predictor": 3} if heights else {"photometric": "RGB", "predictor": 2}
    with (
        replacing(path) as draft,
        rasterio.open(
            draft, "w", driver="GTiff", height=height, width=width, count=bands, dtype=pixels_BHW.dtype,
            crs=DATASET.crs, transform=Affine(GSD_M, 0.0, east_m, 0.0, -GSD_M, north_m), tiled=True,
            blockxsize=256, blockysize=256, compress="deflate", **kind,
        ) as file,
    ):  # fmt: skip
        file.write(pixels_BHW)
