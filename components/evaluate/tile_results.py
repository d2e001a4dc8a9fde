"""Predict one tile under every condition: confusion matrices and thumbnails.

In: a network, a tile of the store. Out: pixel counts per condition and ground truth, and layers shrunk to thumbnails.
The full-size maps of a tile are released before the next tile is read.
Letters: H W size of the tile, h w size of a thumbnail, pixels; K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from components.common.data.store import Tile
from components.common.inference.windows import Windows
from components.common.scoring.conditions import Band, Confusions, bands, conditions, tile_confusions, tile_name
from components.common.scoring.gates import GateMap
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
class TileResult:
    """Counts and pictures of one tile."""

    confusions: Confusions
    thumbnails: Thumbnails


def predict_tile(
    network: MoBaNet, name: str, tile: Tile, windows: Windows, device: torch.device, thumbnail_px: int
) -> TileResult:
    """Predict one tile under every condition of the network.

    Args:
        network: the network, in evaluation mode, on `device`.
        name: id of the tile, for its thumbnails and for errors.
        tile: the layers of the tile.
        windows: how the tile is cut into windows.
        device: device of the network.
        thumbnail_px: longest side of a thumbnail, pixels.

    Raises:
        NonFiniteError: a logit is NaN or infinite.
    """
    k, gate = network.config.num_classes, GateMap()
    counts: Confusions = {}
    predicted_hw = {}
    for condition, predict in conditions(network, gate).items():
        rows: list[npt.NDArray[np.uint8]] = []

        def keep(band: Band, rows: list[npt.NDArray[np.uint8]] = rows) -> None:
            rows.append(band.classes_hW.cpu().numpy())
            gate.add(band.gates_GhW)

        predicted = bands(tile, predict, k, windows, device, tile_name(name, condition))
        counts[condition] = tile_confusions(tile, predicted, k, visit=keep)
        predicted_hw[condition] = shrink_classes(np.concatenate(rows), thumbnail_px)
    gate_HW = gate.map_HW
    thumbnails = Thumbnails(
        tile=name,
        image_hw3=shrink_picture(image_picture(tile.image_HWC), thumbnail_px),
        dsm_hw=shrink_mean(tile.dsm_HW, thumbnail_px),
        label_hw=shrink_classes(tile.label_HW, thumbnail_px),
        predicted_hw=predicted_hw,
        gate_hw=None if gate_HW is None else shrink_mean(gate_HW, thumbnail_px),
    )
    return TileResult(counts, thumbnails)
