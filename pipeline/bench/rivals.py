"""Two other data loading methods for comparison: windows read with rasterio, and tiles cached in each worker.

Both cut the same crops (position, flips) in PyTorch's usual way: a data set of single crops, which workers collate into
batches. The comparison favours them: files stay open, and the random choices are made in advance.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from rasterio.windows import Window
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from components.common.data.store import Store
from components.train.crops import Places
from pipeline.bench.noise_tiles import raster

Layers = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]


class _SingleCrops(Dataset[tuple[Tensor, ...]]):
    """Crop `i`: image `[C, H, W]`, DSM `[H, W]`, label `[H, W]`."""

    def __init__(self, places: Places, side_px: int) -> None:
        self._places, self._side_px = places, side_px

    def _read(self, tile: int, top: int, left: int) -> Layers:
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        places, i = self._places, index % len(self._places.tile)
        down, across = (slice(None, None, -1 if turned else 1) for turned in (places.down[i], places.across[i]))
        layers = self._read(int(places.tile[i]), int(places.top[i]), int(places.left[i]))
        return tuple(torch.from_numpy(layer[..., down, across].copy()) for layer in layers)


class RasterioCrops(_SingleCrops):
    """Reads each layer of a crop as a window of a GeoTIFF. Each worker opens each file once."""

    def __init__(self, folder: Path, places: Places, side_px: int) -> None:
        """Read from the GeoTIFFs in `folder`."""
        super().__init__(places, side_px)
        self._folder = folder
        self._open: dict[int, tuple[rasterio.DatasetReader, ...]] = {}

    def _read(self, tile: int, top: int, left: int) -> Layers:
        if tile not in self._open:
            paths = (raster(self._folder, tile, layer) for layer in ("image", "dsm", "label"))
            self._open[tile] = tuple(rasterio.open(path) for path in paths)
        window = Window(left, top, self._side_px, self._side_px)
        image, dsm, label = self._open[tile]
        return image.read(window=window), dsm.read(1, window=window), label.read(1, window=window)


class CachedCrops(_SingleCrops):
    """Caches all tiles in each worker as arrays, as the released code does: float32 image and DSM, int64 label."""

    def __init__(self, store: Store, tiles: int, places: Places, side_px: int) -> None:
        """Cache the first `tiles` tiles of the store when the first crop is requested."""
        super().__init__(places, side_px)
        self._store, self._tiles = store, tiles
        self._cache: Mapping[int, Layers] = {}

    def _read(self, tile: int, top: int, left: int) -> Layers:
        if not self._cache:
            self._cache = dict(enumerate(self._load()))
        part = slice(top, top + self._side_px), slice(left, left + self._side_px)
        image, dsm, label = self._cache[tile]
        return image[:, *part], dsm[part], label[part]

    def _load(self) -> Iterator[Layers]:
        for entry in self._store.manifest.tiles[: self._tiles]:
            tile = self._store[entry]
            image = np.empty((tile.image_HWC.shape[2], *tile.label_HW.shape), np.float32)
            np.multiply(tile.image_HWC.transpose(2, 0, 1), np.float32(1 / 255), out=image)
            yield image, tile.dsm_HW.copy(), tile.label_HW.astype(np.int64)


def cached_bytes(side_px: int) -> int:
    """Memory of one cached tile, bytes: three bands and the DSM in float32, the label in int64."""
    return side_px**2 * (3 * 4 + 4 + 8)


def stream(crops: Dataset[tuple[Tensor, ...]], batch_size: int, workers: int) -> Generator[list[Tensor], None, None]:
    """Batches of the crops 0, 1, 2, and so on; longer than any benchmark runs."""
    yield from DataLoader(crops, batch_size, sampler=range(2**31), num_workers=workers)
