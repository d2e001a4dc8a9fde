"""Score a network on tiles under every sensor condition: both modalities, image only, DSM only.

Train (validation tiles) and evaluate (test tiles) both use it, so that their figures mean the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import torch

from components.common.data.store import Store, Tile, TileEntry
from components.common.inference.windows import Predict, Windows, sliding
from components.common.progress import track
from components.common.scoring.metrics import confusion
from model import MoBaNet

GROUND_TRUTHS = ("eroded", "full")
"""`eroded` ignores object boundaries, as the benchmark's protocol does; every headline figure uses it."""


def conditions(network: MoBaNet) -> dict[str, Predict]:
    """Condition -> prediction function, for every condition that a network supports; the first has all its sensors."""
    if network.config.modalities == ("rgb",):
        return {"rgb": lambda rgb, dsm: network(rgb, None)}
    if network.config.modalities == ("dsm",):
        return {"dsm": lambda rgb, dsm: network(None, dsm)}
    return {
        "rgb+dsm": lambda rgb, dsm: network(rgb, dsm),
        "rgb": lambda rgb, dsm: network(rgb, None),
        "dsm": lambda rgb, dsm: network(None, dsm),
    }


def class_map(tile: Tile, predict: Predict, windows: Windows, device: torch.device) -> npt.NDArray[np.uint8]:
    """Predicted classes of a tile, `[H, W]`."""
    bands = sliding(tile, predict, windows, device)
    return np.concatenate([maps_KHW.argmax(0).astype(np.uint8) for _, maps_KHW in bands])


Confusions = dict[str, dict[str, npt.NDArray[np.int64]]]
"""Condition -> ground truth -> confusion `[K, K]`."""


def confusions(
    network: MoBaNet,
    store: Store,
    entries: Iterable[TileEntry],
    windows: Windows,
    device: torch.device,
    wanted: Callable[[int], bool] = lambda job: True,
) -> Confusions:
    """Confusion matrices over tiles; rows are the true classes, columns the predicted ones.

    Args:
        network: the network, in evaluation mode, on `device`.
        store: the store with the tiles.
        entries: the tiles to score.
        windows: how tiles are cut into windows.
        device: device of the network.
        wanted: whether to run a job, by its number. A job is one tile under one condition, numbered from 0; ranks use
            this to divide the jobs.
    """
    k = network.config.num_classes
    totals = {name: {gt: np.zeros((k, k), np.int64) for gt in GROUND_TRUTHS} for name in conditions(network)}
    job = itertools.count()
    for entry in track(entries, "scoring tiles", lines=False):
        for name, predict in conditions(network).items():
            if not wanted(next(job)):
                continue
            found = tile_confusions(store[entry], class_map(store[entry], predict, windows, device), k)
            for truth in GROUND_TRUTHS:
                totals[name][truth] += found[truth]
    return totals


def tile_confusions(
    tile: Tile, predicted_HW: npt.NDArray[np.uint8], num_classes: int
) -> dict[str, npt.NDArray[np.int64]]:
    """Confusion matrices of one tile's class map, by ground truth."""
    truths = {"eroded": tile.eroded_HW, "full": tile.label_HW}
    return {name: confusion(truths[name], predicted_HW, num_classes) for name in GROUND_TRUTHS}
