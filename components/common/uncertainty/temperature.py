"""Temperatures: what logits are divided by, so that the confidence of a network is its accuracy.

In: a network and tiles that it was not trained on. Out: one temperature per condition. It changes no class.
Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017. Letters: N pixels, K classes, h rows.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from components.common.data.datasets import IGNORE
from components.common.data.store import Store, TileEntry
from components.common.inference.windows import Windows
from components.common.progress import track
from components.common.scoring.conditions import bands
from model import MoBaNet

log = logging.getLogger(__name__)

LIMITS = (0.05, 20.0)
"""Lowest and highest temperature. If no pixel is wrong, the lower the better; but if the logits of the classes are so
far apart that the loss is flat, the search stays at 1."""

STRIDE_PX = 7
"""Least distance of the pixels that are used; neighbours would add nothing."""

MOST_PIXELS = 500_000
"""About the most pixels per condition; with more, their distance grows."""


def fit_temperatures(
    network: MoBaNet, store: Store, entries: Sequence[TileEntry], windows: Windows, device: torch.device
) -> dict[str, float]:
    """Fit the temperature of every condition on the eroded ground truth of tiles.

    Args:
        network: the network, in evaluation mode, on `device`.
        store: the store with the tiles.
        entries: labelled tiles that the network was not trained on.
        windows: how tiles are cut into windows.
        device: device of the network.

    Returns:
        Condition -> temperature; conditions without a labelled pixel are left out.

    Raises:
        NonFiniteError: a logit is NaN or infinite.
    """
    area = sum(entry.height_px * entry.width_px for entry in entries)
    stride = max(STRIDE_PX, math.ceil((area / MOST_PIXELS) ** 0.5))
    found: dict[str, list[tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]]] = {}
    for entry in track(entries, "calibrating on validation tiles", lines=False):
        tile = store[entry]
        for band in bands(network, tile, windows, device, name=f"tile {entry.id}"):
            first = -band.row % stride
            for condition, logits_KhW in band.logits_KhW.items():
                logits_NK = logits_KhW[:, first::stride, ::stride].flatten(1).T.cpu().numpy()
                rows = slice(band.row + first, band.row + logits_KhW.shape[1], stride)
                truth_N = tile.eroded_HW[rows, ::stride].ravel()
                found.setdefault(condition, []).append((logits_NK[truth_N != IGNORE], truth_N[truth_N != IGNORE]))
    temperatures = {
        condition: best_temperature(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        for condition, parts in found.items()
        if any(len(truth_N) for _, truth_N in parts)
    }
    log.info("temperatures: %s", ", ".join(f"{name} {value:.2f}" for name, value in temperatures.items()) or "none")
    return temperatures


def best_temperature(logits_NK: npt.NDArray[np.floating], truth_N: npt.NDArray[np.integer]) -> float:
    """The temperature with the lowest negative log-likelihood, within `LIMITS`.

    Args:
        logits_NK: finite logits of at least one pixel.
        truth_N: true classes 0..K-1.
    """
    logits, truth = torch.from_numpy(logits_NK.astype(np.float64)), torch.from_numpy(truth_N.astype(np.int64))
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = F.cross_entropy(logits / log_temperature.clamp(*map(math.log, LIMITS)).exp(), truth)
        found.backward()
        return found

    optimiser.step(loss)
    return round(min(max(math.exp(log_temperature.item()), LIMITS[0]), LIMITS[1]), 4)
