"""Sliding-window inference on rasters of any size: overlapping windows are averaged, with one band of rows in memory.

In: a tile (views of the store) and a function from normalised inputs to maps. Out: finished bands of rows, top down, on
the device of the network. Letters: B batch, K channels of the output (such as classes), H W of the tile or window,
h rows of a band, pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from components.common.data.store import Tile
from model import MoBaNet
from model.inputs import normalise, pad_to_multiple, padded_side

Predict = Callable[[Tensor, Tensor], Tensor]
"""(rgb_B3HW, dsm_B1HW), normalised -> maps_BKHW of the same height and width."""


@dataclass(frozen=True, slots=True)
class Windows:
    """How a raster is cut into windows and how its pixels are normalised."""

    window_px: int  # side of a window, pixels, a multiple of the patch size
    stride_px: int  # step between windows, pixels, 1..window_px; smaller is slower and smoother
    batch_size: int  # windows per forward pass
    patch_size: int  # side of a patch, pixels; windows at the edges of small tiles are padded to a multiple of it
    image_mean: tuple[float, ...]  # per band, of image / 255
    image_std: tuple[float, ...]  # per band, of image / 255

    def __post_init__(self) -> None:
        if self.window_px % self.patch_size:
            raise ValueError(f"window_px is {self.window_px}; expected a multiple of {self.patch_size}")

    @classmethod
    def of(
        cls,
        network: MoBaNet,
        side_px: int,
        *,
        stride_px: int,
        batch_size: int,
        image_mean: tuple[float, ...],
        image_std: tuple[float, ...],
    ) -> Windows:
        """Windows of `side_px`, rounded up to a multiple of the network's patch size.

        The added pixels are pixels of the image. So validation, evaluation and the exported graph use the same windows.
        """
        patch = network.patch_size
        return cls(padded_side(side_px, patch), stride_px, batch_size, patch, image_mean, image_std)


def sliding(tile: Tile, predict: Predict, windows: Windows, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """Yield `(row, maps_KhW)`: the band of finished rows that starts at `row`. The bands cover the tile exactly once.

    Overlapping windows are averaged. The maps are float32 and stay on `device`. At most one band of windows,
    `K * window_px * W` numbers, is in memory.
    """
    height, width = tile.label_HW.shape
    side = windows.window_px
    rows, columns = (_starts(size, side, windows.stride_px) for size in (height, width))
    over_H, over_W = (_windows_over(size, starts, side, device) for size, starts in ((height, rows), (width, columns)))
    total_KHW: Tensor | None = None
    for row, next_row in pairwise([*rows, height]):
        for left, maps_KHW in _band(tile, predict, windows, device, row, columns):
            k, h, w = maps_KHW.shape
            if total_KHW is None:
                total_KHW = torch.zeros(k, side, width, device=device)
            total_KHW[:, :h, left : left + w] += maps_KHW
        assert total_KHW is not None
        done = next_row - row
        yield row, total_KHW[:, :done] / (over_H[row:next_row, None] * over_W)
        total_KHW[:, : side - done] = total_KHW[:, done:].clone()  # move the unfinished rows up
        total_KHW[:, side - done :] = 0


def _starts(size: int, window: int, stride: int) -> list[int]:
    last = max(0, size - window)
    return [*range(0, last, stride), last]


def _windows_over(size: int, starts: list[int], window: int, device: torch.device) -> Tensor:
    """How many windows cover each pixel along one side, `[size]`."""
    counts = np.zeros(size, np.float32)
    for start in starts:
        counts[start : start + window] += 1
    return torch.from_numpy(counts).to(device)


def _band(
    tile: Tile, predict: Predict, windows: Windows, device: torch.device, row: int, columns: list[int]
) -> Iterator[tuple[int, Tensor]]:
    side = windows.window_px
    for first in range(0, len(columns), windows.batch_size):
        lefts = columns[first : first + windows.batch_size]
        images = np.stack([tile.image_HWC[row : row + side, left : left + side] for left in lefts])
        heights = np.stack([tile.dsm_HW[row : row + side, left : left + side] for left in lefts])
        image_BCHW = torch.from_numpy(images).to(device).movedim(-1, 1)
        dsm_B1HW = torch.from_numpy(heights).to(device).unsqueeze(1)
        h, w = heights.shape[1:]
        inputs = normalise(image_BCHW, dsm_B1HW, windows.image_mean, windows.image_std)
        with torch.inference_mode():
            maps_BKHW = predict(*(pad_to_multiple(x, windows.patch_size) for x in inputs))
        yield from zip(lefts, maps_BKHW[..., :h, :w].float(), strict=True)
