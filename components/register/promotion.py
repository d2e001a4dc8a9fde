"""Promotion gates: may a candidate replace the champion? Numbers in, verdicts out; independent of MLflow.

A candidate must be scored on the same data version with the same protocol, and have a higher expected mIoU E(p). Its
mIoU with both sensors and the IoU of its worst class must not drop by more than a tolerance. If there is no champion,
the candidate only needs balance figures, which a single-modality network does not have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

IDENTITY = ("data_md5", "git_commit", "tool_version", "device", "model", "window_px", "precision")
"""Protocol keys that the gate `protocol` does not compare: they have their own gate, or may differ.

`window_px` and `precision` may differ because each network is scored with the window and in the precision of its own
training.
"""


@dataclass(frozen=True, slots=True)
class PromotionRecord:
    """The figures of a model that promotion compares. mIoU and IoU: percent points, on the protocol's ground truth."""

    data_md5: str  # data version of the evaluation
    protocol: dict[str, Any]  # all other settings that two evaluations must share
    miou: float  # with all sensors of the network
    worst_class: str
    worst_class_iou: float
    expected_miou: float | None  # E(p); None: single-modality network

    @classmethod
    def of(cls, evaluation: Mapping[str, Any]) -> PromotionRecord:
        """Read the figures from the content of an `evaluation.json`.

        Raises:
            KeyError, TypeError: the content is not an evaluation.
        """
        protocol, balance = evaluation["protocol"], evaluation["balance"]
        shared = {key: value for key, value in protocol.items() if key not in IDENTITY}
        shared["failure_probability"] = balance and balance["failure_probability"]
        headline = headline_scores(evaluation)
        worst = headline["worst_class"]
        return cls(
            data_md5=protocol["data_md5"],
            protocol=shared,
            miou=headline["miou"],
            worst_class=worst,
            worst_class_iou=headline["per_class"][worst]["iou"],
            expected_miou=balance and balance["expected_miou"],
        )

    def to_json(self) -> str:
        """One line of JSON; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PromotionRecord:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far a candidate may be below the champion, percent points, >= 0."""

    fused_drop: float
    worst_class_drop: float


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of promotion, as text for a table."""

    name: str
    candidate: str
    champion: str
    limit: str  # what the candidate must be
    passed: bool


UNKNOWN_CHAMPION = Gate("balance figures", "present", "none", "present in both", False)
"""Failed gate for a champion that cannot be compared: it has one sensor, or its alias was set by hand."""


def headline_scores(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Scores with all sensors of the network, on the protocol's ground truth."""
    scores: Mapping[str, Any] = evaluation["scores"][evaluation["protocol"]["ground_truth"]]
    return scores["+".join(evaluation["protocol"]["model"]["modalities"])]


def judge(candidate: PromotionRecord, champion: PromotionRecord | None, tolerances: Tolerances) -> tuple[Gate, ...]:
    """Check all gates of a candidate; it may be promoted if every gate is passed.

    Args:
        candidate: figures of the new model.
        champion: figures of the current champion; None: there is no champion.
        tolerances: how far the fused mIoU and the worst-class IoU may be below the champion's.
    """
    if candidate.expected_miou is None:
        return (Gate("balance figures", "none: one sensor", "-", "present", False),)
    if champion is None:
        return (Gate("balance figures", "present", "no champion", "present", True),)
    if champion.expected_miou is None:
        return (UNKNOWN_CHAMPION,)
    return (
        Gate(
            "data version",
            candidate.data_md5,
            champion.data_md5,
            "equal",
            candidate.data_md5 == champion.data_md5,
        ),
        _same_protocol(candidate.protocol, champion.protocol),
        Gate(
            "expected mIoU",
            f"{candidate.expected_miou:.2f}",
            f"{champion.expected_miou:.2f}",
            "higher",
            candidate.expected_miou > champion.expected_miou,
        ),
        _not_fallen("mIoU, both sensors", candidate.miou, champion.miou, tolerances.fused_drop),
        _not_fallen(
            f"IoU, worst class ({candidate.worst_class}; {champion.worst_class})",
            candidate.worst_class_iou,
            champion.worst_class_iou,
            tolerances.worst_class_drop,
        ),
    )


def _same_protocol(candidate: Mapping[str, Any], champion: Mapping[str, Any]) -> Gate:
    odd = sorted(key for key in candidate.keys() | champion.keys() if candidate.get(key) != champion.get(key))
    theirs, ours = (
        ", ".join(f"{key} {json.dumps(protocol.get(key))}" for key in odd) or "-" for protocol in (champion, candidate)
    )
    return Gate("protocol", ours, theirs, "equal", not odd)


def _not_fallen(name: str, candidate: float, champion: float, tolerance: float) -> Gate:
    least = champion - tolerance
    return Gate(name, f"{candidate:.2f}", f"{champion:.2f}", f"{least:.2f} or more", candidate >= least)
