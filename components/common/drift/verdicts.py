"""Whether production differs from validation, quantity by quantity.

In: the reference, histograms of windows of production. Out: every distance with its limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

import numpy as np

from components.common.drift.distances import shares
from components.common.drift.null_distribution import distances, limits
from components.common.drift.quantities import Counts
from components.common.drift.reference_windows import Reference


@dataclass(frozen=True, slots=True)
class Tolerance:
    """When a distance is drift."""

    max_psi: float  # a smaller PSI is never drift
    max_ks: float  # the same for KS
    level: float  # probability of an alarm without drift, 0..1
    seed: int  # of the draws that give the limits


@dataclass(frozen=True, slots=True)
class Verdict:
    """One distance."""

    name: str  # of the quantity
    title: str
    measure: str  # psi | ks
    distance: float  # NaN: production or validation has no such pixel
    limit: float
    drifted: bool


def verdicts(reference: Reference, fine: dict[str, Counts], areas: int, tolerance: Tolerance) -> list[Verdict]:
    """Compare windows of production with the reference.

    Args:
        reference: windows of validation.
        fine: name -> histograms in fine bins, one row per window.
        areas: number of areas that the windows lie in.
        tolerance: when a distance is drift.
    """
    windows = len(next(iter(fine.values())))
    allowed = limits(reference, windows, areas, tolerance.level, tolerance.seed)
    least = {"psi": tolerance.max_psi, "ks": tolerance.max_ks}
    expected = {name: one.counts_NB.sum(0) for name, one in reference.histograms.items()}
    found = {name: one.coarse(fine[name]).sum(0) for name, one in reference.histograms.items()}
    result = []
    for (name, measure), value in distances(reference, expected, found).items():
        distance, limit = float(value), max(least[measure], allowed[name, measure])
        title = reference.histograms[name].quantity.title
        result.append(Verdict(name, title, measure, distance, limit, not isnan(distance) and distance > limit))
    return result


def share_pairs(reference: Reference, fine: dict[str, Counts]) -> dict[str, tuple[list[float], list[float]]]:
    """Name -> shares of the coarse bins in validation and in production, for a picture; 0 where nothing was counted."""
    return {
        name: (
            np.nan_to_num(shares(one.counts_NB.sum(0))).tolist(),
            np.nan_to_num(shares(one.coarse(fine[name]).sum(0))).tolist(),
        )
        for name, one in reference.histograms.items()
    }
