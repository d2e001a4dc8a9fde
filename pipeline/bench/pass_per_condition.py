"""Score tiles as the first releases did: a pass per condition and one for the gates, with sums on the CPU.

In: a network with `missing: zero`, so that both streams run in every pass, and tiles of a store. Out: the confusion
matrix of the condition with both sensors. `mobanet bench evaluate` compares the evaluate step with it.
Letters: B batch, K maps (classes, or 1 for the gate), k classes, h w size of a window or band, H W size of the tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from components.common.data.datasets import CONDITIONS
from components.common.data.store import Store, Tile, TileEntry
from components.common.inference.windows import Predict, Windows, window_starts
from components.common.scoring.counts import Confusion, confusion
from components.common.scoring.gates import GateMap, has_gates
from model import MoBaNet
from model.inputs import normalise, pad_to_multiple
from model.presence import without_nan


def fused_counts(
    network: MoBaNet, data: Store, entries: tuple[TileEntry, ...], windows: Windows, device: torch.device
) -> Confusion:
    """Score tiles under all conditions and against both ground truths.

    Args:
        network: the network, in evaluation mode, on `device`.
        data: the store with the tiles.
        entries: the tiles; all have both sensors.
        windows: how tiles are cut into windows; the gates come from adjacent windows.
        device: device of the network.

    Returns:
        The confusion matrix `[k, k]` with both sensors against the eroded ground truth.
    """
    k = network.config.num_classes
    fused = np.zeros((k, k), np.int64)
    for entry in entries:
        tile = data[entry]
        for condition, predict in _predictors(network).items():
            bands = _bands(predict, tile, windows, device)
            classes_hW = [torch.from_numpy(maps_KhW.argmax(0).astype(np.uint8)) for maps_KhW in bands]
            truths_HW = (torch.tensor(layer) for layer in (tile.eroded_HW, tile.label_HW))
            eroded, _ = (confusion(truth_HW, torch.cat(classes_hW), k) for truth_HW in truths_HW)
            fused += eroded if len(CONDITIONS[condition]) == 2 else 0
        if has_gates(network):
            side_by_side = replace(windows, stride_px=windows.window_px)
            np.concatenate([gate_1hW[0] for gate_1hW in _bands(_gate(network), tile, side_by_side, device)])
    return fused


def _predictors(network: MoBaNet) -> dict[str, Predict]:
    """Condition -> logits `[B, k, h, w]` of a batch of windows."""
    return {
        "rgb+dsm": lambda rgb, dsm: network(rgb, dsm),
        "rgb": lambda rgb, dsm: network(rgb, None),
        "dsm": lambda rgb, dsm: network(None, dsm),
    }


def _gate(network: MoBaNet) -> Predict:
    """The mean gate over stages and channels, `[B, 1, h, w]`; the decoder does not run."""

    def predict(rgb: Tensor, dsm: Tensor) -> Tensor:
        stages = network.encoder(without_nan(rgb), without_nan(dsm))
        gates = [stage.gate_BChw for stage in stages if stage.gate_BChw is not None]
        return F.interpolate(GateMap().maps(gates), size=rgb.shape[-2:])

    return predict


def _bands(predict: Predict, tile: Tile, windows: Windows, device: torch.device) -> Iterator[npt.NDArray[np.float32]]:
    """Finished rows `[K, h, W]` of a tile, top down; overlapping windows are averaged."""
    height, width = tile.label_HW.shape
    side = windows.window_px
    tops, lefts = (window_starts(size, side, windows.stride_px) for size in (height, width))
    counts_hW = np.zeros((side, width), np.float32)
    total_KhW: npt.NDArray[np.float32] | None = None
    for top, end in pairwise([*tops, height]):
        for left, maps_Khw in _maps(predict, tile, windows, device, top, lefts):
            k, h, w = maps_Khw.shape
            total_KhW = np.zeros((k, side, width), np.float32) if total_KhW is None else total_KhW
            total_KhW[:, :h, left : left + w] += maps_Khw
            counts_hW[:h, left : left + w] += 1
        assert total_KhW is not None
        done = end - top
        yield total_KhW[:, :done] / counts_hW[:done]
        for buffer in (total_KhW, counts_hW):  # move the unfinished rows up
            buffer[..., : side - done, :] = buffer[..., done:, :].copy()
            buffer[..., side - done :, :] = 0


def _maps(
    predict: Predict, tile: Tile, windows: Windows, device: torch.device, top: int, lefts: list[int]
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """First column and maps `[K, h, w]` of every window of a row; a batch is within the row."""
    side = windows.window_px
    for first in range(0, len(lefts), windows.batch_size):
        chosen = lefts[first : first + windows.batch_size]
        cuts = [(slice(top, top + side), slice(left, left + side)) for left in chosen]
        image_BHWC, dsm_BHW = (np.stack([layer[cut] for cut in cuts]) for layer in (tile.image_HWC, tile.dsm_HW))
        h, w = dsm_BHW.shape[1:]
        image, dsm = torch.from_numpy(image_BHWC).to(device).movedim(-1, 1), torch.from_numpy(dsm_BHW).to(device)
        inputs = normalise(image, dsm[:, None], windows.image_mean, windows.image_std)
        with torch.inference_mode():
            maps_BKHW = predict(*(pad_to_multiple(x, windows.patch_size) for x in inputs))
        yield from zip(chosen, maps_BKHW[..., :h, :w].float().cpu().numpy(), strict=True)
