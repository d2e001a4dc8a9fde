"""How well a network uses both sensors, and which of its checkpoints is balanced best.

In: `v`, the mIoU (percent points) of one checkpoint on the same tiles with both sensors, without the DSM and without
the image; a missing sensor is handled as `model.missing` says. Out: `Balance`. Needs only NumPy.
Sources: E(p) and average: EMM (arXiv 2503.18445); last-1: SGMA (arXiv 2603.02505); Shapley contributions:
BalanceBenchmark (arXiv 2502.10816).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from components.common.scoring import metrics


@dataclass(frozen=True, slots=True)
class Balance:
    """Balance of one checkpoint. mIoU values are in percent points; retention and imbalance are ratios."""

    both: float  # v(RD): image and DSM
    rgb: float  # v(R): image only
    dsm: float  # v(D): DSM only
    majority: float  # v0: mIoU of always predicting the most frequent class
    failure_probability: float  # p, 0..1
    expected_miou: float  # E(p): each sensor fails with probability p, given that at least one works
    average: float  # mean of v(RD), v(R) and v(D)
    last_1: float  # the lower of v(R) and v(D)
    retention_rgb: float  # v(R) / v(RD), what remains without the DSM; NaN: v(RD) is 0
    retention_dsm: float  # v(D) / v(RD), what remains without the image; NaN: v(RD) is 0
    shapley_rgb: float  # contribution of the image, points above v0; may be negative
    shapley_dsm: float  # contribution of the DSM, points above v0; both contributions sum to v(RD) - v0
    imbalance: float  # 0: equal contributions, 1: one sensor contributes all, above 1: one harms; NaN: no contribution
    fusion_gain: float  # v(RD) minus the better of v(R) and v(D)


def balance(v_both: float, v_rgb: float, v_dsm: float, v_majority: float, p: float) -> Balance:
    """Compute all balance figures of one checkpoint.

    Args:
        v_both: mIoU with both sensors, percent points.
        v_rgb: mIoU without the DSM, percent points.
        v_dsm: mIoU without the image, percent points.
        v_majority: mIoU of always predicting the most frequent class, percent points; see `majority_miou`.
        p: probability that a sensor fails, 0 <= p < 1.
    """
    shapley_rgb = (v_rgb - v_majority + v_both - v_dsm) / 2
    shapley_dsm = (v_dsm - v_majority + v_both - v_rgb) / 2
    earned = shapley_rgb + shapley_dsm
    return Balance(
        both=v_both,
        rgb=v_rgb,
        dsm=v_dsm,
        majority=v_majority,
        failure_probability=p,
        expected_miou=expected_miou(v_both, v_rgb, v_dsm, p),
        average=(v_both + v_rgb + v_dsm) / 3,
        last_1=min(v_rgb, v_dsm),
        retention_rgb=v_rgb / v_both if v_both > 0 else math.nan,
        retention_dsm=v_dsm / v_both if v_both > 0 else math.nan,
        shapley_rgb=shapley_rgb,
        shapley_dsm=shapley_dsm,
        imbalance=abs(shapley_rgb - shapley_dsm) / earned if earned > 0 else math.nan,
        fusion_gain=v_both - max(v_rgb, v_dsm),
    )


Points = TypeVar("Points", float, npt.NDArray[np.float64])


def expected_miou(v_both: Points, v_rgb: Points, v_dsm: Points, p: float) -> Points:
    """E(p): the mIoU to expect if each sensor fails with probability `p`, given that at least one works."""
    return ((1 - p) ** 2 * v_both + p * (1 - p) * (v_rgb + v_dsm)) / (1 - p**2)


def majority_miou(confusion_KK: npt.NDArray[np.int64], in_means: Sequence[bool]) -> float:
    """`v0`: the mIoU of always predicting the most frequent class of the ground truth, percent points.

    Args:
        confusion_KK: pixel counts; rows are the true classes. The predictions do not matter.
        in_means: which classes count in the mean.
    """
    truth_K = confusion_KK.sum(axis=1)
    always_KK = np.zeros_like(confusion_KK)
    always_KK[:, int(np.argmax(truth_K))] = truth_K
    return metrics.scores(always_KK, [str(k) for k in range(len(truth_K))], in_means).miou


@dataclass(frozen=True, slots=True)
class Candidate:
    """Validation figures of one checkpoint. Selection needs no other state than a list of them.

    `dataclasses.asdict` turns it into JSON.
    """

    step: int
    fused_miou: float  # v(RD), percent points; for a single-modality network, its v
    expected_miou: float  # E(p), percent points; for a single-modality network, also its v

    @property
    def is_finite(self) -> bool:
        """Whether both figures are numbers that can be compared."""
        return math.isfinite(self.fused_miou) and math.isfinite(self.expected_miou)


def select(candidates: Sequence[Candidate], guard: float) -> Candidate:
    """The best balanced checkpoint: the highest E(p) among those whose v(RD) is within `guard` of the best v(RD).

    Ties go to the higher v(RD), then to the earlier step. A checkpoint with a figure that is NaN or infinite is never
    selected.

    Args:
        candidates: every checkpoint validated so far, in any order; at least one has finite figures.
        guard: percent points, >= 0.
    """
    candidates = [c for c in candidates if c.is_finite]
    floor = max(c.fused_miou for c in candidates) - guard
    return max((c for c in candidates if c.fused_miou >= floor), key=lambda c: (c.expected_miou, c.fused_miou, -c.step))


def contenders(candidates: Sequence[Candidate], guard: float) -> tuple[Candidate, ...]:
    """The checkpoints to keep on disk: those that `select` returns now or can return after later checkpoints.

    The selected checkpoint alone is not enough: if a later one raises the best v(RD), `select` can return an earlier
    one. A checkpoint is no longer needed if it is outside of the guard, or if another is at least as good in both
    figures.

    Args:
        candidates: every checkpoint validated so far, or the earlier contenders and the new checkpoint; at least one
            has finite figures.
        guard: percent points, >= 0.

    Returns:
        The checkpoints, sorted by v(RD), highest first; E(p) increases along the tuple.
    """
    candidates = [c for c in candidates if c.is_finite]
    floor = max(c.fused_miou for c in candidates) - guard
    ranked = sorted(candidates, key=lambda c: (-c.fused_miou, -c.expected_miou, c.step))
    kept: list[Candidate] = []
    for candidate in ranked:
        if candidate.fused_miou >= floor and (not kept or candidate.expected_miou > kept[-1].expected_miou):
            kept.append(candidate)
    return tuple(kept)
