"""Predict one tile under every condition that it has the sensors of: counts, thumbnails, and crops with most errors.

In: a network, a tile of the store. Out: counts per condition, layers shrunk to thumbnails, a few crops. The full-size
maps of a tile are released before the next tile is read.
Letters: H W size of the tile, h w size of a thumbnail, pixels; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.common.data.datasets import CONDITIONS
from components.common.data.store import Tile
from components.common.inference.any_network import AnyNetwork
from components.common.inference.windows import Windows
from components.common.scoring.conditions import Confusions
from components.common.scoring.gates import GateMap
from components.common.scoring.panels import image_picture, shrink_classes, shrink_mean, shrink_picture
from components.common.scoring.tile_counts import CONFUSIONS, ConditionCounts, Counted, score_tile
from components.evaluate.worst_crops import Crop, worst_crops


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """Layers of one tile, all shrunk to the same size."""

    tile: str
    image_hw3: npt.NDArray[np.uint8] | None  # first three bands of the image; None: the tile has no image
    dsm_hw: npt.NDArray[np.float32] | None  # scaled heights, NaN: not measured; None: the tile has no DSM
    label_hw: npt.NDArray[np.uint8]  # full ground truth; 255: ignored
    predicted_hw: dict[str, npt.NDArray[np.uint8]]  # by condition
    gate_hw: npt.NDArray[np.float32] | None  # 0 DSM only, 1 image only; None: no gates, or not both sensors


@dataclass(frozen=True, slots=True)
class TileResult:
    """Counts and pictures of one tile."""

    tile: str
    counts: dict[str, ConditionCounts]  # by condition; those that the network and the tile support
    thumbnails: Thumbnails
    worst: tuple[Crop, ...]  # under the first of these conditions

    @property
    def confusions(self) -> Confusions:
        """Condition -> ground truth -> confusion matrix."""
        return {condition: found.confusions for condition, found in self.counts.items()}


def predict_tile(
    network: AnyNetwork,
    name: str,
    tile: Tile,
    windows: Windows,
    device: torch.device,
    thumbnail_px: int,
    counted: Counted = CONFUSIONS,
) -> TileResult:
    """Predict one tile under every condition that the network and the tile support.

    Args:
        network: the network, in evaluation mode, on `device`.
        name: id of the tile, for its thumbnails and for errors.
        tile: the layers of the tile.
        windows: how the tile is cut into windows.
        device: device of the network.
        thumbnail_px: longest side of a thumbnail, pixels.
        counted: what to count.

    Raises:
        NonFiniteError: a logit is NaN or infinite.
    """
    gate = GateMap()
    predicted_hw: dict[str, npt.NDArray[np.uint8]] = {}
    worst: list[Crop] = []

    def look(condition: str, classes_HW: Tensor) -> None:
        on_cpu_HW = classes_HW.cpu().numpy()
        if not predicted_hw:
            worst.extend(worst_crops(name, condition, tile, on_cpu_HW, windows.window_px))
        predicted_hw[condition] = shrink_classes(on_cpu_HW, thumbnail_px).copy()

    counts = score_tile(network, tile, windows, device, counted, gates=gate, name=f"tile {name}", visit=look)
    gate_HW = gate.map_HW
    thumbnails = Thumbnails(
        tile=name,
        image_hw3=shrink_picture(image_picture(tile.image_HWC), thumbnail_px) if "rgb" in tile.sensors else None,
        dsm_hw=shrink_mean(tile.dsm_HW, thumbnail_px) if "dsm" in tile.sensors else None,
        label_hw=shrink_classes(tile.label_HW, thumbnail_px),
        predicted_hw=predicted_hw,
        gate_hw=None if gate_HW is None else shrink_mean(gate_HW, thumbnail_px),
    )
    return TileResult(name, counts, thumbnails, tuple(worst))


def total(results: Sequence[TileResult]) -> Confusions:
    """Confusion matrices over tiles; every tile counts under its own conditions."""
    found = {name: [result.counts[name] for result in results if name in result.counts] for name in CONDITIONS}
    return {
        name: {truth: np.sum([of_tile.confusions[truth] for of_tile in counts], axis=0) for truth in counts[0].blocks}
        for name, counts in found.items()
        if counts
    }
