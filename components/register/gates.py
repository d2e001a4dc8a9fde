"""May a candidate replace the champion? Numbers in, verdicts out; nothing here knows MLflow.

A candidate must have been scored on the same data version by the same protocol, have the higher expected mIoU E(p), and
neither its mIoU with both sensors nor the IoU of its worst class may have fallen by more than a tolerance. Without a
champion it needs balance figures, which a network of one sensor has not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

IDENTITY = ("data_md5", "git_commit", "tool_version", "device", "model", "window_px")
"""Parts of an evaluation's protocol that two comparable evaluations may differ in, or that have a gate of their own.

The window is the side that each network was trained with.
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """What promotion looks at of one model. IoU in percent points on the protocol's ground truth."""

    data_md5: str  # data version of the evaluation
    protocol: dict[str, Any]  # whatever else two evaluations must share
    miou: float  # with everything the network was built for
    worst_class: str
    worst_class_iou: float
    expected_miou: float | None  # E(p); None: a network of one sensor

    @classmethod
    def of(cls, evaluation: Mapping[str, Any]) -> Standing:
        """Read it from the content of an `evaluation.json`; KeyError or TypeError when that is not one."""
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
    def from_json(cls, text: str) -> Standing:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far a candidate may fall, percent points, >= 0."""

    fused_drop: float
    worst_class_drop: float


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of promotion, in words for a table."""

    name: str
    candidate: str
    champion: str
    limit: str  # what the candidate has to be
    passed: bool


UNKNOWN_CHAMPION = Gate("balance figures", "there", "none", "there in both", False)
"""Stands where the champion cannot be compared: it has one sensor, or the alias was given to it by hand."""


def headline_scores(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Scores on the protocol's ground truth with everything that the network was built for."""
    scores: Mapping[str, Any] = evaluation["scores"][evaluation["protocol"]["ground_truth"]]
    return scores["+".join(evaluation["protocol"]["model"]["modalities"])]


def judge(candidate: Standing, champion: Standing | None, tolerances: Tolerances) -> tuple[Gate, ...]:
    """Every gate of the candidate; it is promoted if all are passed.

    Args:
        candidate: the new model.
        champion: the present one; None: there is none.
        tolerances: how far two of the figures may fall.
    """
    if candidate.expected_miou is None:
        return (Gate("balance figures", "none: one sensor", "-", "there", False),)
    if champion is None:
        return (Gate("balance figures", "there", "no champion", "there", True),)
    if champion.expected_miou is None:
        return (UNKNOWN_CHAMPION,)
    return (
        Gate(
            "data version",
            candidate.data_md5,
            champion.data_md5,
            "the same",
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
    return Gate("protocol", ours, theirs, "the same", not odd)


def _not_fallen(name: str, candidate: float, champion: float, tolerance: float) -> Gate:
    least = champion - tolerance
    return Gate(name, f"{candidate:.2f}", f"{champion:.2f}", f"{least:.2f} or more", candidate >= least)
