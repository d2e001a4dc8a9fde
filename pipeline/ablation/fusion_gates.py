"""Statistics of a network's fusion gates on tiles: mean, standard deviation and saturated share.

In: a network with DGFM, tiles. Out: numbers per stage and over all stages; every pixel of a tile counts once.
A gate of 1 means that a channel uses only the image, 0 only the DSM, 0.5 both equally (as in an untrained network).
Letters: S stages, B batch, C channels, h w tokens, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from components.common.data.store import Tile
from components.common.inference.windows import Windows, sliding
from model import MoBaNet

SATURATED = (0.1, 0.9)
"""A gate below the first or above the second value is saturated: it suppresses one modality almost completely."""


def gate_figures(network: MoBaNet, tiles: Iterable[Tile], windows: Windows, device: torch.device) -> dict[str, float]:
    """Statistics of the gates with both sensors.

    Returns:
        `gate_mean` (0..1), `gate_std` (over channels and pixels), `gate_saturated` (percent), and the same per stage as
        `gate_mean_1` and so on; empty if the network has no gates.
    """
    if not network.config.dgfm or len(network.config.modalities) < 2:
        return {}
    side_by_side = replace(windows, stride_px=windows.window_px)
    total_S3: npt.NDArray[np.float64] = np.zeros(())
    pixels = 0
    for tile in tiles:
        for _, maps_KHW in sliding(tile, lambda rgb, dsm: _moments(network, rgb, dsm), side_by_side, device):
            total_S3 = total_S3 + maps_KHW.sum(axis=(1, 2), dtype=float).reshape(-1, 3)
            pixels += maps_KHW[0].size
    moments_S3 = total_S3 / pixels
    stages = {f"_{stage}": moments_3 for stage, moments_3 in enumerate(moments_S3, start=1)}
    figures: dict[str, float] = {}
    for name, (mean, square, saturated) in ({"": moments_S3.mean(axis=0)} | stages).items():
        figures[f"gate_mean{name}"] = float(mean)
        figures[f"gate_std{name}"] = float(np.sqrt(max(0.0, square - mean**2)))
        figures[f"gate_saturated{name}"] = float(100 * saturated)
    return figures


def _moments(network: MoBaNet, rgb_B3HW: Tensor, dsm_B1HW: Tensor) -> Tensor:
    """Means over the channels, per stage: the gate, its square, and whether it is saturated; `[B, 3 S, H, W]`."""
    low, high = SATURATED
    maps_BKhw = torch.cat(
        [
            torch.stack([gate, gate**2, ((gate < low) | (gate > high)).float()], dim=1).mean(dim=2)
            for gate in network.gates(rgb_B3HW, dsm_B1HW)
        ],
        dim=1,
    )
    return F.interpolate(maps_BKhw, size=rgb_B3HW.shape[-2:])
