"""Sliding-window inference on rasters of any size: overlapping windows are averaged, with one band of rows in memory.

In: a tile (views of the store) and a function from normalised inputs to maps. Out: finished bands of rows, top down, on
the device of the network. A window is read, copied and normalised once, whatever is predicted from it.
Letters: B batch, K channels of the output (such as classes), H W of the tile or window, h rows of a band, pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.common.data.store import Tile
from components.common.inference.any_network import AnyNetwork
from model.inputs import normalise, pad_to_multiple, padded_side

Predict = Callable[[Tensor, Tensor], Tensor]
"""(rgb_BCHW, dsm_B1HW), normalised, NaN where absent -> maps_BKHW of the same height and width."""

PART_ROWS = 8
"""Rows of windows that a part of a tile has at least, so that few windows over its edges are computed twice."""


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
        network: AnyNetwork,
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


@dataclass(frozen=True, slots=True)
class _Batch:
    """Windows of one batch: their row among the rows of windows, their first column, and their pixels."""

    rows: tuple[int, ...]
    lefts: tuple[int, ...]
    image_BHWC: npt.NDArray[np.uint8]
    dsm_BHW: npt.NDArray[np.float32]


def parts(height_px: int, windows: Windows) -> list[range]:
    """Divide the rows of windows of a tile into parts that can be computed apart, each for `sliding`.

    The parts follow from the tile and the windows alone, so their results do not depend on who computes which.
    """
    count = len(window_starts(height_px, windows.window_px, windows.stride_px))
    edges = np.linspace(0, count, max(1, count // PART_ROWS) + 1).round().astype(int).tolist()
    return [range(first, last) for first, last in zip(edges, edges[1:], strict=False)]


def sliding(
    tile: Tile, predict: Predict, windows: Windows, device: torch.device, part: range | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Yield `(row, maps_KhW)`: the band of finished rows that starts at `row`. The bands cover a part exactly once.

    Overlapping windows are averaged. The maps are float32 and stay on `device`. At most one band of windows,
    `K * window_px * W` numbers, is in memory, and the batches that are computed. A batch continues in the next row of
    windows. On a CPU, each of torch's threads computes a batch of its own, which needs no waiting inside of a batch.

    Args:
        tile: the tile.
        predict: function from normalised inputs to maps.
        windows: how the tile is cut.
        device: device of the network.
        part: a result of `parts`; None: the complete tile.
    """
    height, width = tile.label_HW.shape
    side = windows.window_px
    starts, columns = (window_starts(size, side, windows.stride_px) for size in (height, width))
    over_H, over_W = (_windows_over(n, at, side, device) for n, at in ((height, starts), (width, columns)))
    part = range(len(starts)) if part is None else part
    ends = [*starts[1:], height]
    first = min(row for row, start in enumerate(starts) if start + side > starts[part.start])
    batches = _batches(tile, windows, [(row, starts[row]) for row in range(first, part.stop)], columns)
    total_KHW: Tensor | None = None
    current = first

    def finished() -> Iterator[tuple[int, Tensor]]:
        assert total_KHW is not None
        row, end = starts[current], ends[current]
        if current in part:
            yield row, total_KHW[:, : end - row] / (over_H[row:end, None] * over_W)

    for batch, maps_BKHW in _in_order(batches, lambda b: _maps(b, predict, windows, device), device):
        k, h, w = maps_BKHW.shape[1:]
        if total_KHW is None:
            total_KHW = torch.zeros(k, side, width, device=device)
        for window_row, left, maps_KHW in zip(batch.rows, batch.lefts, maps_BKHW, strict=True):
            if window_row != current:
                yield from finished()
                _move_up(total_KHW, ends[current] - starts[current])
                current = window_row
            total_KHW[:, :h, left : left + w] += maps_KHW
    yield from finished()


def _move_up(total_KHW: Tensor, done: int) -> None:
    """Move the unfinished rows up; the rows below them are 0."""
    kept = total_KHW.shape[1] - done
    total_KHW[:, :kept] = total_KHW[:, done:].clone()
    total_KHW[:, kept:] = 0


def window_starts(size: int, window: int, stride: int) -> list[int]:
    """First pixel of every window along a side of a raster; the last window ends where the raster ends."""
    last = max(0, size - window)
    return [*range(0, last, stride), last]


def _windows_over(size: int, starts: list[int], window: int, device: torch.device) -> Tensor:
    """How many windows cover each pixel along one side, `[size]`."""
    counts = np.zeros(size, np.float32)
    for start in starts:
        counts[start : start + window] += 1
    return torch.from_numpy(counts).to(device)


def _batches(tile: Tile, windows: Windows, rows: Sequence[tuple[int, int]], columns: list[int]) -> Iterator[_Batch]:
    """The windows of rows `(index, first pixel)`, row by row, read when they are needed."""
    side = windows.window_px
    places = [(index, top, left) for index, top in rows for left in columns]
    for first in range(0, len(places), windows.batch_size):
        chosen = places[first : first + windows.batch_size]
        cuts = [(slice(top, top + side), slice(left, left + side)) for _, top, left in chosen]
        images, heights = np.stack([tile.image_HWC[cut] for cut in cuts]), np.stack([tile.dsm_HW[cut] for cut in cuts])
        yield _Batch(tuple(row for row, _, _ in chosen), tuple(left for *_, left in chosen), images, heights)


def _maps(batch: _Batch, predict: Predict, windows: Windows, device: torch.device) -> Tensor:
    """Maps of a batch of windows, float32, `[B, K, H, W]`."""
    image_BCHW = torch.from_numpy(batch.image_BHWC).to(device).movedim(-1, 1)
    dsm_B1HW = torch.from_numpy(batch.dsm_BHW).to(device).unsqueeze(1)
    h, w = dsm_B1HW.shape[-2:]
    with torch.inference_mode():
        inputs = normalise(image_BCHW, dsm_B1HW, windows.image_mean, windows.image_std)
        return predict(*(pad_to_multiple(x, windows.patch_size) for x in inputs))[..., :h, :w].float()


def _in_order(
    batches: Iterable[_Batch], compute: Callable[[_Batch], Tensor], device: torch.device
) -> Iterator[tuple[_Batch, Tensor]]:
    """Yield every batch with its result, in order; on a CPU, several batches are computed at the same time."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield from ((batch, compute(batch)) for batch in batches)
        return
    on, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def work(batch: _Batch) -> Tensor:
        with torch.autocast("cpu", dtype, enabled=on):  # autocast belongs to a thread
            return compute(batch)

    waiting: deque[tuple[_Batch, Future[Tensor]]] = deque()
    torch.set_num_threads(1)  # for what is done with the results meanwhile
    pool = ThreadPoolExecutor(threads, "windows", torch.set_num_threads, (1,))
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(work, batch)))
            if len(waiting) > threads:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
