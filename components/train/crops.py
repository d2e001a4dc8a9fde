"""Load batches of random crops from the store.

A run is one sequence of crops without epochs. Step `s`, counted from 1, uses the `batch_size` crops from index
`(s - 1) * batch_size`. Every random choice is a function of (seed, index). Thus crop `i` does not depend on the number
of ranks and workers, and a run can resume at any step.
Workers cut complete batches into shared memory that is allocated once. A crop is copied twice: from the mapped tile to
shared memory, and from there to the caller's batch.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from components.common.data.store import Store, TileEntry
from components.common.errors import DataError, MobanetError, ParamsError
from components.train.config import TrainConfig

PREFETCH = 2
"""Number of batches that a worker prepares in advance."""

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux stores memory shared between processes; containers limit it, by default to 64 MB."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of crops with the values of the store, neither normalised nor padded."""

    image_BCHW: Tensor  # uint8, channels-last memory format
    dsm_B1HW: Tensor  # float32, NaN = not measured
    label_BHW: Tensor  # uint8, 255 = ignore
    has_image_B: Tensor  # bool; False: the tile has no image, and the crop's is 0

    @property
    def layers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Image, DSM and labels."""
        return self.image_BCHW, self.dsm_B1HW, self.label_BHW

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All tensors, in the order of the fields."""
        return *self.layers, self.has_image_B

    def handed_over(self) -> Batch:
        """A copy owned by the caller, in pinned memory if there is a GPU."""
        pinned = torch.cuda.is_available()
        copies = [torch.empty_like(tensor, pin_memory=pinned) for tensor in self.tensors]
        for copy, tensor in zip(copies, self.tensors, strict=True):
            np.copyto(copy.numpy(), tensor.numpy())  # one thread; torch would use all cores, which the workers need
        return Batch(*copies)


@dataclass(frozen=True, slots=True)
class Places:
    """Positions and flips of crops; one element per crop."""

    tile: npt.NDArray[np.intp]  # index of the tile
    top: npt.NDArray[np.intp]  # first row, pixels
    left: npt.NDArray[np.intp]  # first column, pixels
    down: npt.NDArray[np.bool_]  # whether to flip vertically
    across: npt.NDArray[np.bool_]  # whether to flip horizontally


class Crops:
    """Random crops by index. A tile is drawn with a probability proportional to its area, then a position and flips."""

    def __init__(self, store: Store, tiles: tuple[TileEntry, ...], config: TrainConfig) -> None:
        """Map all `tiles` into memory; workers inherit the maps, and damaged tiles are found before training begins.

        Raises:
            DataError: there is no tile, or a tile is smaller than a crop.
            StoreError: a tile is missing or damaged.
        """
        if not tiles:
            raise DataError(f"{store.path}: split {store.manifest.split} has no training tile; change data.split")
        for tile in tiles:
            if min(tile.height_px, tile.width_px) < config.crop_px:
                raise DataError(
                    f"{store.path / tile.file}: {tile.width_px} x {tile.height_px} px, smaller than a crop; "
                    f"set train.crop_px to {min(tile.height_px, tile.width_px)} or less"
                )
            store[tile]
        self._store, self._tiles, self._config = store, tiles, config
        sizes = np.array([(tile.height_px, tile.width_px) for tile in tiles])
        self._room = sizes - config.crop_px + 1  # number of rows and columns at which a crop can begin
        self._reach = (
            np.cumsum(sizes.prod(1)) / sizes.prod(1).sum()
        )  # tile k: random numbers from reach[k - 1] to reach[k]
        self._key = np.random.SeedSequence(config.seed).generate_state(2, np.uint64)

    def places(self, first: int, count: int) -> Places:
        """Positions and flips of the crops `first` to `first + count - 1` of the run.

        The Philox generator is a function of a key and a counter. The key follows from the seed and the counter is the
        index of the crop; one count gives four random words.
        """
        words = np.random.Philox(key=self._key, counter=first).random_raw(4 * count).reshape(count, 4)
        uniform = (words[:, :3] >> np.uint64(11)) * 2.0**-53  # [0, 1)
        tile = np.searchsorted(self._reach, uniform[:, 0], side="right")
        start = (uniform[:, 1:] * self._room[tile]).astype(np.intp)
        down, across = (words[:, 3] >> np.uint64(63 - bit) & np.uint64(self._config.flips) == 1 for bit in (0, 1))
        return Places(tile, start[:, 0], start[:, 1], down, across)

    def empty(self, count: int) -> Batch:
        """Allocate an uninitialised batch of `count` crops."""
        side = self._config.crop_px
        return Batch(
            torch.empty(count, side, side, len(self._store.manifest.bands), dtype=torch.uint8).movedim(-1, 1),
            torch.empty(count, 1, side, side),
            torch.empty(count, side, side, dtype=torch.uint8),
            torch.empty(count, dtype=torch.bool),
        )

    def cut(self, first: int, batch: Batch) -> None:
        """Fill `batch` with consecutive crops that start at index `first`."""
        places = self.places(first, len(batch.label_BHW))
        image_BHWC, dsm_BHW, label_BHW = (
            tensor.numpy() for tensor in (batch.image_BCHW.movedim(1, -1), batch.dsm_B1HW[:, 0], batch.label_BHW)
        )
        side, eroded = self._config.crop_px, self._config.labels == "eroded"
        for i, (tile, top, left) in enumerate(zip(places.tile, places.top, places.left, strict=True)):
            layers = self._store[self._tiles[tile]]
            part = slice(top, top + side), slice(left, left + side)
            turn = slice(None, None, -1 if places.down[i] else 1)
            image_BHWC[i] = layers.image_HWC[part][turn]
            dsm_BHW[i] = layers.dsm_HW[part][turn]
            label_BHW[i] = (layers.eroded_HW if eroded else layers.label_HW)[part][turn]
            batch.has_image_B[i] = "rgb" in layers.sensors
            if places.across[i]:  # torch.flip is 5 times as fast as NumPy's copy with negative strides
                for crop in (layer[i] for layer in batch.layers):
                    crop.copy_(crop.flip(-1))


def batches(
    crops: Crops, config: TrainConfig, workers: int, first_step: int, *, rank: int = 0, world_size: int = 1
) -> Generator[Batch, None, None]:
    """Yield the batches of the steps `first_step` to `config.steps`, counted from 1.

    Args:
        crops: source of the crops.
        config: section `train`; `batch_size` is the total over all ranks.
        workers: number of processes that cut crops for this rank; 0: the calling process does it.
        first_step: first step to yield.
        rank: which part of every batch to yield, 0..world_size - 1. The concatenated parts of all ranks are the batch
            that a single rank would get.
        world_size: number of ranks that share a batch.

    Raises:
        ParamsError: the batch size is not a multiple of `world_size` or is less than two per rank, or the workers need
            more shared memory than is free.
    """
    if config.batch_size % world_size or config.batch_size < 2 * world_size:
        raise ParamsError(
            f"train.batch_size is {config.batch_size}; expected a multiple of the {world_size} ranks, and at least two "
            "crops per rank, because BatchNorm needs two"
        )
    count = config.batch_size // world_size
    indices = (step * config.batch_size + rank * count for step in range(first_step - 1, config.steps))
    if not workers:
        return (_cut(crops, first, count) for first in indices)
    return _cut_by_workers(crops, indices, count, workers)


def _cut(crops: Crops, first: int, count: int) -> Batch:
    batch = crops.empty(count)
    crops.cut(first, batch)
    return batch


def _cut_by_workers(crops: Crops, indices: Iterator[int], count: int, workers: int) -> Generator[Batch, None, None]:
    slots = _shared(crops, count, PREFETCH * workers + 1)  # the workers' batches, and the one being copied
    free = deque(range(len(slots)))
    loader = DataLoader(
        _Slots(crops, slots),
        batch_size=None,
        sampler=((first, free.popleft()) for first in indices),
        num_workers=workers,
        prefetch_factor=PREFETCH,
    )
    for slot in loader:
        if isinstance(slot, Exception):
            raise slot
        yield slots[slot].handed_over()
        free.append(slot)


def _shared(crops: Crops, count: int, slots: int) -> tuple[Batch, ...]:
    first = crops.empty(count)
    needed = slots * sum(tensor.nbytes for tensor in first.tensors)
    if SHARED_MEMORY.is_dir() and (left := shutil.disk_usage(SHARED_MEMORY).free) < needed:
        raise ParamsError(
            f"{SHARED_MEMORY}: {left / 2**20:.0f} MB free, but the batches of runtime.workers need "
            f"{needed / 2**20:.0f} MB; give the container more shared memory, or set fewer workers"
        )
    return tuple(Batch(*(tensor.share_memory_() for tensor in crops.empty(count).tensors)) for _ in range(slots))


class _Slots(Dataset[int | Exception]):
    """Runs in a worker: fills a slot with the crops from an index on, and returns the number of the slot.

    An error that a user can fix is returned, because DataLoader would replace its sentence by a traceback.
    """

    def __init__(self, crops: Crops, slots: tuple[Batch, ...]) -> None:
        self._crops, self._slots = crops, slots

    def __getitem__(self, job: tuple[int, int]) -> int | Exception:
        first, slot = job
        try:
            self._crops.cut(first, self._slots[slot])
        except (MobanetError, OSError, MemoryError) as error:
            return error
        return slot
