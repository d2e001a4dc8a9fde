"""The figures of a trained network on the tiles of a subset: scores, balance and gates, as a flat mapping.

`miou`, `oa`, `mf1` and `worst_class_iou` are for all sensors of the network, as in reports/metrics.json.
docs/evaluation.md describes the balance figures, `fusion_gates.py` the gate figures. Values are percent points or
ratios. Undefined figures are left out: a single-modality network has no balance, a network without DGFM has no gates.
"""

from __future__ import annotations

import math
from dataclasses import asdict

import torch

from components.common.data.datasets import Subset
from components.common.data.store import Store
from components.common.inference.windows import Windows
from components.common.scoring.balance import balance, majority_miou
from components.common.scoring.conditions import confusions
from components.common.scoring.metrics import scores
from model import MoBaNet
from pipeline.ablation.fusion_gates import gate_figures

GROUND_TRUTH = "eroded"

REPEATED = {"both", "rgb", "dsm", "failure_probability"}
"""Balance figures that are left out: they have other names here, or belong to the protocol."""

DIGITS = 4
"""Decimal places of a figure."""


def figures(
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
    manifest = store.manifest
    entries = manifest.subset(subset)
    counts = [by_truth[GROUND_TRUTH] for by_truth in confusions(network, store, entries, windows, device).values()]
    scored = [scores(confusion_KK, manifest.classes, manifest.in_means) for confusion_KK in counts]
    own, *single = scored
    found = {"miou": own.miou, "oa": own.oa, "mf1": own.mf1, "expected_miou": own.miou}
    if own.worst_class is not None:
        found["worst_class_iou"] = own.per_class[own.worst_class].iou
    if single:
        rgb, dsm = (alone.miou for alone in single)
        balanced = asdict(balance(own.miou, rgb, dsm, majority_miou(counts[0], manifest.in_means), p))
        found |= {"miou_rgb": rgb, "miou_dsm": dsm}
        found |= {name: balanced[name] for name in balanced.keys() - REPEATED}
    found |= gate_figures(network, (store[entry] for entry in entries), windows, device)
    return {name: round(value, DIGITS) for name, value in found.items() if math.isfinite(value)}
