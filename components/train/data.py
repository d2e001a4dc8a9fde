"""Store -> batches of random crops. Every random choice is a function of (seed, index), so a run resumes at any step.

Crop `i` of the run is the same whatever the number of workers and wherever the run was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from components.common.errors import DataError
from components.common.store import Store, TileEntry
from components.train.config import TrainConfig


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops as stored: not normalised, not padded."""

    image_BCHW: Tensor  # uint8
    dsm_B1HW: Tensor  # float32, NaN = not measured
    label_BHW: Tensor  # uint8, 255 = ignore


class Crops(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Random crops, by index: a tile by its area, a place in it, flips."""

    def __init__(self, store: Store, tiles: tuple[TileEntry, ...], config: TrainConfig) -> None:
        """Cut from `tiles`.

        Raises:
            DataError: there is no tile, or one is smaller than a crop.
        """
        if not tiles:
            raise DataError(
                f"{store.path}: the split {store.manifest.split} has no training tile; set preprocess.split"
            )
        for tile in tiles:
            if min(tile.height_px, tile.width_px) < config.crop_px:
                raise DataError(
                    f"{store.path / tile.file}: {tile.width_px} x {tile.height_px} px, smaller than a crop; "
                    f"set train.crop_px to {min(tile.height_px, tile.width_px)} or less"
                )
        self._store, self._tiles, self._config = store, tiles, config
        areas = np.array([tile.height_px * tile.width_px for tile in tiles], float)
        self._shares = areas / areas.sum()

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Crop `index` of the run: image `[C, H, W]`, DSM `[1, H, W]`, label `[H, W]`."""
        config = self._config
        rng = np.random.default_rng((config.seed, index))
        entry = self._tiles[rng.choice(len(self._tiles), p=self._shares)]
        top = rng.integers(entry.height_px - config.crop_px + 1)
        left = rng.integers(entry.width_px - config.crop_px + 1)
        rows, columns = slice(top, top + config.crop_px), slice(left, left + config.crop_px)
        down, across = (-1 if config.flips and rng.random() < 0.5 else 1 for _ in range(2))
        tile = self._store[entry]
        label_HW = tile.label_HW if config.labels == "full" else tile.eroded_HW
        image, dsm, label = (
            torch.from_numpy(layer[rows, columns][::down, ::across].copy())
            for layer in (tile.image_HWC, tile.dsm_HW, label_HW)
        )
        return image.movedim(-1, 0), dsm[None], label


def batches(crops: Crops, config: TrainConfig, workers: int, first_step: int) -> Iterator[Batch]:
    """The batches of the steps `first_step` to `config.steps`, counted from 1, cut by `workers` processes."""
    indices = range((first_step - 1) * config.batch_size, config.steps * config.batch_size)
    loader = DataLoader(
        crops,
        batch_size=config.batch_size,
        sampler=indices,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    for image, dsm, label in loader:
        yield Batch(image, dsm, label)
