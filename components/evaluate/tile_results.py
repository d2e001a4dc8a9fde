"""Predict one tile under every condition: confusion matrices and thumbnails.

In: a network, a tile of the store. Out: pixel counts per condition and ground truth, and layers shrunk to thumbnails.
The full-size maps of a tile are released before the next tile is read.
Letters: H W size of the tile, h w size of a thumbnail, pixels; K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from components.common.data.store import Tile
from components.common.inference.windows import Windows, sliding
from components.common.scoring.conditions import Confusions, class_map, conditions, tile_confusions
from components.common.scoring.panels import image_picture, shrink_classes, shrink_mean, shrink_picture
from model import MoBaNet


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """Layers of one tile, all shrunk to the same size."""

    tile: str
    image_hw3: npt.NDArray[np.uint8]  # first three bands of the image
    dsm_hw: npt.NDArray[np.float32]  # scaled heights as in the store; NaN: not measured
    label_hw: npt.NDArray[np.uint8]  # full ground truth; 255: ignored
    predicted_hw: dict[str, npt.NDArray[np.uint8]]  # by condition
    gate_hw: npt.NDArray[np.float32] | None  # 0 DSM only, 1 image only; None: the network has no gates


@dataclass(frozen=True, slots=True)
class Scene:
    """The results of one tile."""

    confusions: Confusions
    thumbnails: Thumbnails


def predict_tile(
    network: MoBaNet, name: str, tile: Tile, windows: Windows, device: torch.device, thumbnail_px: int
) -> Scene:
    """Predict one tile under every condition of the network.

    Args:
        network: the network, in evaluation mode, on `device`.
        name: id of the tile, for its thumbnails.
        tile: the layers of the tile.
        windows: how the tile is cut into windows.
        device: device of the network.
        thumbnail_px: longest side of a thumbnail, pixels.
    """
    counts: Confusions = {}
    predicted_hw = {}
    for condition, predict in conditions(network).items():
        map_HW = class_map(tile, predict, windows, device)
        counts[condition] = tile_confusions(tile, map_HW, network.config.num_classes)
        predicted_hw[condition] = shrink_classes(map_HW, thumbnail_px)
    gate_HW = gate_map(network, tile, windows, device)
    thumbnails = Thumbnails(
        tile=name,
        image_hw3=shrink_picture(image_picture(tile.image_HWC), thumbnail_px),
        dsm_hw=shrink_mean(tile.dsm_HW, thumbnail_px),
        label_hw=shrink_classes(tile.label_HW, thumbnail_px),
        predicted_hw=predicted_hw,
        gate_hw=None if gate_HW is None else shrink_mean(gate_HW, thumbnail_px),
    )
    return Scene(counts, thumbnails)


def gate_map(network: MoBaNet, tile: Tile, windows: Windows, device: torch.device) -> npt.NDArray[np.float32] | None:
    """Mean gate over stages and channels, `[H, W]`, from adjacent windows; None: the network has no gates."""
    if not network.config.dgfm or len(network.config.modalities) < 2:
        return None

    def predict(rgb_B3HW: Tensor, dsm_B1HW: Tensor) -> Tensor:
        gates = [gate_BChw.mean(dim=1, keepdim=True) for gate_BChw in network.gates(rgb_B3HW, dsm_B1HW)]
        return F.interpolate(torch.stack(gates).mean(dim=0), size=rgb_B3HW.shape[-2:])

    side_by_side = replace(windows, stride_px=windows.window_px)
    return np.concatenate([maps_1hW[0] for _, maps_1hW in sliding(tile, predict, side_by_side, device)])
