"""Maps and statistics of a network's fusion gates, taken from the passes that also give the logits.

In: the gates of every stage, 0..1; 1 means that a channel uses only the image, 0 only the DSM, 0.5 both equally, as in
an untrained network. Out: a map per tile, or numbers per stage and over all stages.
Letters: S stages, B batch, C channels, G maps, h w tokens, H W pixels.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.common.inference.any_network import AnyNetwork

SATURATED = (0.1, 0.9)
"""A gate below the first or above the second value is saturated: it suppresses one modality almost completely."""


class GateReader(Protocol):
    """Reduces the gates of a window to maps, and takes in the maps of a tile, averaged over overlapping windows."""

    def maps(self, gates: list[Tensor]) -> Tensor:
        """Gates of every stage, each `[B, C, h, w]` -> maps `[B, G, h, w]`."""

    def add(self, maps_GhW: Tensor) -> None:
        """Take in the next band of finished rows of a tile; without maps (G is 0), the call does nothing."""


def has_gates(network: AnyNetwork) -> bool:
    """Whether the network fuses two modalities with gates."""
    return network.config.dgfm and len(network.config.modalities) == 2


class GateMap:
    """The mean gate over stages and channels, of one tile."""

    def __init__(self) -> None:
        """Start without rows."""
        self._bands: list[npt.NDArray[np.float32]] = []

    def maps(self, gates: list[Tensor]) -> Tensor:
        """Mean over stages and channels, `[B, 1, h, w]`."""
        return torch.stack([gate.mean(dim=1, keepdim=True) for gate in gates]).mean(dim=0)

    def add(self, maps_GhW: Tensor) -> None:
        """Append the rows of a band."""
        self._bands.extend(map_hW.clone().cpu().numpy() for map_hW in maps_GhW)  # not a view, which holds the logits

    @property
    def map_HW(self) -> npt.NDArray[np.float32] | None:
        """The map of the tile; None: the network has no gates."""
        return np.concatenate(self._bands) if self._bands else None


class GateStatistics:
    """Mean, standard deviation and saturated share of the gates on tiles; every pixel counts once."""

    def __init__(self) -> None:
        """Start without pixels."""
        self._sums: Tensor | None = None
        self._pixels = 0

    def maps(self, gates: list[Tensor]) -> Tensor:
        """Means over the channels, per stage: the gate, its square, and whether it is saturated; `[B, 3 S, h, w]`."""
        low, high = SATURATED
        moments = ([gate, gate**2, ((gate < low) | (gate > high)).float()] for gate in map(Tensor.float, gates))
        return torch.cat([torch.stack(three, dim=1).mean(dim=2) for three in moments], dim=1)

    def add(self, maps_GhW: Tensor) -> None:
        """Add the pixels of a band."""
        if not len(maps_GhW):
            return
        sums = maps_GhW.sum(dim=(1, 2), dtype=torch.float64)
        self._sums = sums if self._sums is None else self._sums + sums
        self._pixels += maps_GhW[0].numel()

    def figures(self) -> dict[str, float]:
        """The statistics by name.

        Returns:
            `gate_mean` (0..1), `gate_std` (over channels and pixels), `gate_saturated` (percent), and the same per
            stage as `gate_mean_1` and so on; empty if the network has no gates.
        """
        if self._sums is None:
            return {}
        moments_S3 = self._sums.cpu().numpy().reshape(-1, 3) / self._pixels
        stages = {f"_{stage}": moments_3 for stage, moments_3 in enumerate(moments_S3, start=1)}
        found: dict[str, float] = {}
        for name, (mean, square, saturated) in ({"": moments_S3.mean(axis=0)} | stages).items():
            found[f"gate_mean{name}"] = float(mean)
            found[f"gate_std{name}"] = float(np.sqrt(max(0.0, square - mean**2)))
            found[f"gate_saturated{name}"] = float(100 * saturated)
        return found
