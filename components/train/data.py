"""Store -> batches of random crops. Every random choice is a function of (seed, index), so a run resumes at any step.

A run is one sequence of crops without epochs: step `s` (from 1) takes the crops `(s - 1) * batch_size` and following.
Crop `i` is the same whatever the number of ranks and workers and wherever the run was interrupted.
Workers cut whole batches into shared memory that is made once: a crop costs a copy of its own bytes out of the mapped
tiles, and one more when the batch is handed over.
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
from components.common.errors import DataError, ParamsError
from components.train.config import TrainConfig

PREFETCH = 2
"""Batches that a worker may be ahead."""

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps the memory that processes share; containers limit it, to 64 MB if nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops as stored: not normalised, not padded."""

    image_BCHW: Tensor  # uint8, channels last in memory
    dsm_B1HW: Tensor  # float32, NaN = not measured
    label_BHW: Tensor  # uint8, 255 = ignore

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Image, DSM and label."""
        return self.image_BCHW, self.dsm_B1HW, self.label_BHW

    def handed_over(self) -> Batch:
        """A copy that belongs to whoever takes it: in pinned memory where there is a GPU to send it to."""
        pinned = torch.cuda.is_available()
        copies = [torch.empty_like(tensor, pin_memory=pinned) for tensor in self.tensors]
        for copy, tensor in zip(copies, self.tensors, strict=True):
            np.copyto(copy.numpy(), tensor.numpy())  # one thread; torch would take all, from the workers
        return Batch(*copies)


@dataclass(frozen=True, slots=True)
class Places:
    """Where crops lie and how they are turned; one element per crop."""

    tile: npt.NDArray[np.intp]  # position in the tiles that are cut
    top: npt.NDArray[np.intp]  # first row, pixels
    left: npt.NDArray[np.intp]  # first column, pixels
    down: npt.NDArray[np.bool_]  # turned upside down
    across: npt.NDArray[np.bool_]  # left and right exchanged


class Crops:
    """Random crops, by index: a tile by its area, a place in it, flips."""

    def __init__(self, store: Store, tiles: tuple[TileEntry, ...], config: TrainConfig) -> None:
        """Cut from `tiles`, all mapped now: workers inherit them, and a damaged one is found before training begins.

        Raises:
            DataError: there is no tile, or one is smaller than a crop.
            StoreError: a tile is missing or damaged.
        """
        if not tiles:
            raise DataError(f"{store.path}: the split {store.manifest.split} has no training tile; set data.split")
        for tile in tiles:
            if min(tile.height_px, tile.width_px) < config.crop_px:
                raise DataError(
                    f"{store.path / tile.file}: {tile.width_px} x {tile.height_px} px, smaller than a crop; "
                    f"set train.crop_px to {min(tile.height_px, tile.width_px)} or less"
                )
            store[tile]
        self._store, self._tiles, self._config = store, tiles, config
        sizes = np.array([(tile.height_px, tile.width_px) for tile in tiles])
        self._room = sizes - config.crop_px + 1  # rows and columns at which a crop may begin
        self._reach = np.cumsum(sizes.prod(1)) / sizes.prod(1).sum()  # tile k: random numbers below reach[k]
        self._key = np.random.SeedSequence(config.seed).generate_state(2, np.uint64)

    def places(self, first: int, count: int) -> Places:
        """Random choices of the crops `first` to `first + count - 1` of the run.

        Philox is a function of a key and a counter. The counter is the crop's index; its four words are the crop's own.
        """
        words = np.random.Philox(key=self._key, counter=first).random_raw(4 * count).reshape(count, 4)
        uniform = (words[:, :3] >> np.uint64(11)) * 2.0**-53  # [0, 1)
        tile = np.searchsorted(self._reach, uniform[:, 0], side="right")
        start = (uniform[:, 1:] * self._room[tile]).astype(np.intp)
        down, across = (words[:, 3] >> np.uint64(63 - bit) & np.uint64(self._config.flips) == 1 for bit in (0, 1))
        return Places(tile, start[:, 0], start[:, 1], down, across)

    def empty(self, count: int) -> Batch:
        """Memory for `count` crops, not filled."""
        side = self._config.crop_px
        return Batch(
            torch.empty(count, side, side, len(self._store.manifest.bands), dtype=torch.uint8).movedim(-1, 1),
            torch.empty(count, 1, side, side),
            torch.empty(count, side, side, dtype=torch.uint8),
        )

    def cut(self, first: int, batch: Batch) -> None:
        """Fill `batch` with the crops from index `first` on."""
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
            if places.across[i]:  # torch turns rows in the cache; NumPy's copy with negative strides is 5 times slower
                for crop in (tensor[i] for tensor in batch.tensors):
                    crop.copy_(crop.flip(-1))


def batches(
    crops: Crops, config: TrainConfig, workers: int, first_step: int, *, rank: int = 0, world_size: int = 1
) -> Generator[Batch, None, None]:
    """The batches of the steps `first_step` to `config.steps`, counted from 1, cut by `workers` processes.

    Args:
        crops: where they come from.
        config: section `train`; `batch_size` is that of all ranks together.
        workers: processes of this rank; 0: cut in this one.
        first_step: the step to begin or go on with.
        rank: which equal part of every batch to yield, 0..world_size - 1; put side by side, the parts are the batch
            of a single rank.
        world_size: ranks that share a batch.

    Raises:
        ParamsError: the ranks cannot share a batch equally, or there is too little shared memory for the workers.
    """
    if config.batch_size % world_size:
        raise ParamsError(f"train.batch_size is {config.batch_size}; expected a multiple of the {world_size} ranks")
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
    slots = _shared(crops, count, PREFETCH * workers + 1)  # what workers hold, and the one that is being handed over
    free = deque(range(len(slots)))
    loader = DataLoader(
        _Slots(crops, slots),
        batch_size=None,
        sampler=((first, free.popleft()) for first in indices),
        num_workers=workers,
        prefetch_factor=PREFETCH,
    )
    for slot in loader:
        yield slots[slot].handed_over()
        free.append(slot)


def _shared(crops: Crops, count: int, slots: int) -> tuple[Batch, ...]:
    first = crops.empty(count)
    needed = slots * sum(tensor.nbytes for tensor in first.tensors)
    if SHARED_MEMORY.is_dir() and (left := shutil.disk_usage(SHARED_MEMORY).free) < needed:
        raise ParamsError(
            f"{SHARED_MEMORY}: {left / 2**20:.0f} MB left, and runtime.workers wants {needed / 2**20:.0f} MB for its "
            "batches; give the container more shared memory or set fewer workers"
        )
    return tuple(Batch(*(tensor.share_memory_() for tensor in crops.empty(count).tensors)) for _ in range(slots))


class _Slots(Dataset[int]):
    """What a worker does: fill the given slot with the crops from the given index on, and say which slot it was."""

    def __init__(self, crops: Crops, slots: tuple[Batch, ...]) -> None:
        self._crops, self._slots = crops, slots

    def __getitem__(self, job: tuple[int, int]) -> int:
        first, slot = job
        self._crops.cut(first, self._slots[slot])
        return slot
