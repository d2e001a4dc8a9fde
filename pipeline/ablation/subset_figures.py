"""The figures of a trained network on the tiles of a subset: scores, balance and gates, as a flat mapping.

The names are those of reports/metrics.json; docs/evaluation.md describes the balance figures. `GateStatistics` has the
gate figures. Values are percent points or ratios. Undefined figures are left out: a single-modality network has no
balance, a network without DGFM has no gates.
"""

from __future__ import annotations

import math

import torch

from components.common.data.datasets import Subset
from components.common.data.store import Store
from components.common.inference.windows import Windows
from components.common.scoring.conditions import GROUND_TRUTH, confusions
from components.common.scoring.figures import figures
from components.common.scoring.gates import GateStatistics
from model import MoBaNet

DIGITS = 4
"""Decimal places of a figure."""


def subset_figures(
    network: MoBaNet, store: Store, subset: Subset, windows: Windows, device: torch.device, p: float
) -> dict[str, float]:
    """Compute all figures on one subset.

    Args:
        network: the network, in evaluation mode, on `device`.
        store: the store with the tiles.
        subset: subset of the tiles to score.
        windows: how tiles are cut into windows.
        device: device of the network.
        p: probability that a sensor fails, 0 <= p < 1.
    """
    manifest, gates = store.manifest, GateStatistics()
    counts = confusions(network, store, manifest.subset(subset), windows, device, truths=(GROUND_TRUTH,), gates=gates)
    matrices = {name: by_truth[GROUND_TRUTH] for name, by_truth in counts.items()}
    scored = figures(matrices, manifest.classes, manifest.in_means, p)
    found = scored.by_name() | {"expected_miou": scored.expected_miou} | gates.figures()
    return {name: round(value, DIGITS) for name, value in found.items() if math.isfinite(value)}
