"""Sliding-window inference on rasters of any size: overlapping windows are averaged, with one band of rows in memory.

In: a tile (views of the store) and a function from normalised inputs to maps. Out: finished bands of rows, top down.
Letters: B batch, K channels of the output (classes, or 1 for a gate), H W of the tile or window, pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.common.data.store import Tile
from model.inputs import normalise, pad_to_multiple

Predict = Callable[[Tensor, Tensor], Tensor]
"""(rgb_B3HW, dsm_B1HW), normalised -> maps_BKHW of the same height and width."""


@dataclass(frozen=True, slots=True)
class Windows:
    """How a raster is cut into windows and how its pixels are normalised."""

    window_px: int  # side of a window, pixels
    stride_px: int  # step between windows, pixels, 1..window_px; smaller is slower and smoother
    batch_size: int  # windows per forward pass
    patch_size: int  # windows are padded to a multiple of this, pixels
    image_mean: tuple[float, ...]  # per band, of image / 255
    image_std: tuple[float, ...]  # per band, of image / 255


def sliding(
    tile: Tile, predict: Predict, windows: Windows, device: torch.device
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield `(row, maps_KHW)`: the band of finished rows that starts at `row`. The bands cover the tile exactly once.

    Overlapping windows are averaged. At most one band of windows, `K * window_px * W` numbers, is in memory.
    """
    height, width = tile.label_HW.shape
    rows, columns = (_starts(size, windows.window_px, windows.stride_px) for size in (height, width))
    total_KhW: npt.NDArray[np.float32] | None = None
    counts_hW = np.zeros((windows.window_px, width), np.float32)
    for row, next_row in zip(rows, [*rows[1:], height], strict=True):
        for left, maps_KHW in _band(tile, predict, windows, device, row, columns):
            k, h, w = maps_KHW.shape
            if total_KhW is None:
                total_KhW = np.zeros((k, windows.window_px, width), np.float32)
            total_KhW[:, :h, left : left + w] += maps_KHW
            counts_hW[:h, left : left + w] += 1
        assert total_KhW is not None
        done = next_row - row
        yield row, total_KhW[:, :done] / counts_hW[:done]
        for buffer in (total_KhW, counts_hW):  # move the unfinished rows up
            buffer[..., : windows.window_px - done, :] = buffer[..., done:, :].copy()
            buffer[..., windows.window_px - done :, :] = 0


def _starts(size: int, window: int, stride: int) -> list[int]:
    last = max(0, size - window)
    return [*range(0, last, stride), last]


def _band(
    tile: Tile, predict: Predict, windows: Windows, device: torch.device, row: int, columns: list[int]
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
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
        yield from zip(lefts, maps_BKHW[..., :h, :w].float().cpu().numpy(), strict=True)
