"""Promotion gates: may a candidate replace the champion? Numbers in, verdicts out; independent of MLflow.

Some gates look at the candidate alone: its code is committed, its package is signed as the section trust demands, its
graph agrees with its network, its expected mIoU E(p), latency and size keep their limits. The others compare it with
the champion: same data version and protocol, a higher E(p), and neither the fused mIoU, nor one sensor alone, nor any
class falls by more than a tolerance.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.common.tracking.packages import formats_of
from components.common.trust.signature_check import NOT_CHECKED, SignatureCheck
from components.register.config import RegisterConfig

NOT_COMPARED = (
    *("data_md5", "raw_md5", "git_commit", "tool_version", "device", "model"),
    *("window_px", "precision", "heights", "missing_modality"),
)
"""Keys of a protocol that the gate `protocol` does not compare.

The first ones have their own gate or say nothing about the scores. Window, precision, heights and the treatment of a
missing sensor are those of each network's own training.
"""

CLEAN_COMMIT = 40
"""Length of a commit id in a repository of SHA-1; that of SHA-256 is 64."""

COMPARISON_GATES = frozenset({"data version", "protocol"})
"""Gates that fail because the champion was scored in another way; `mobanet registry rescore` scores it again."""


@dataclass(frozen=True, slots=True)
class PromotionRecord:
    """The figures of a model that promotion compares. mIoU and IoU: percent points, on the protocol's ground truth."""

    raw_md5: str  # raw tiles, split and classes of the evaluation
    protocol: dict[str, Any]  # all other settings that two evaluations must share
    commits: tuple[str, str]  # code of the training, code of the evaluation
    miou: float  # with all sensors of the network
    classes: dict[str, float | None]  # class -> IoU; None: not in the test tiles
    sensors: dict[str, float]  # image only, DSM only -> mIoU; empty: single-modality network
    expected_miou: float | None  # E(p); None: single-modality network
    noise: float | None  # half the width of the interval of E(p), percent points; None: the evaluation has none
    graph_difference: float | None  # of logits, largest, between the network and its graph; None: no graph with logits
    graph_tolerance: float  # the accepted one
    latency_ms: float | None  # of the graph, one window on one CPU thread; None: the package has no graph
    size_mb: float | None  # of the graph with its weights; None: the package has none

    @classmethod
    def of(cls, evaluation: Mapping[str, Any], record: Mapping[str, Any]) -> PromotionRecord:
        """Read the figures of a package.

        Args:
            evaluation: content of its `evaluation.json`.
            record: content of its `export.json`.

        Raises:
            KeyError, TypeError: the content is another one.
        """
        protocol, balance = evaluation["protocol"], evaluation["balance"]
        shared = {key: value for key, value in protocol.items() if key not in NOT_COMPARED}
        shared["tiles"] = _digest_of_tiles(protocol["tiles"])
        by_condition = shared.pop("tiles_by_condition", {})
        if fewer := {name: _digest_of_tiles(ids) for name, ids in by_condition.items() if ids != protocol["tiles"]}:
            shared["tiles_by_condition"] = fewer  # earlier evaluations did not know tiles that lack a sensor
        shared["failure_probability"] = balance and balance["failure_probability"]
        headline = headline_scores(evaluation)
        graph = formats_of(record).get("onnx", {})
        graph = graph if graph.get("status") == "exported" else {}
        interval = ((evaluation.get("intervals") or {}).get("figures") or {}).get("expected_miou")
        return cls(
            raw_md5=protocol["raw_md5"],
            protocol=shared,
            commits=(record["facts"]["git_commit"], protocol["git_commit"]),
            miou=headline["miou"],
            classes={name: scores["iou"] for name, scores in headline["per_class"].items()},
            sensors={"image only": balance["rgb"], "DSM only": balance["dsm"]} if balance else {},
            expected_miou=balance and balance["expected_miou"],
            noise=interval and (interval[1] - interval[0]) / 2,
            graph_difference=graph["largest_difference"] if graph.get("compared") == "logits" else None,
            graph_tolerance=record["parity"]["tolerance"],
            latency_ms=graph.get("latency_ms"),
            size_mb=graph["bytes"] / 1e6 if graph else None,
        )

    @property
    def worst_class(self) -> tuple[str, float] | None:
        """Class with the lowest IoU of those that count in means, and that IoU; None: there is none."""
        counted = self.protocol["mean_classes"]
        known = {name: iou for name, iou in self.classes.items() if iou is not None and name in counted}
        return min(known.items(), key=lambda entry: entry[1], default=None)

    def to_json(self) -> str:
        """One line of JSON; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PromotionRecord | None:
        """Read what `to_json` wrote; None: an earlier version with other fields wrote it."""
        try:
            content = json.loads(text)
            return cls(**content | {"commits": tuple(content["commits"])})
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of promotion, as text for a table."""

    name: str
    candidate: str
    champion: str
    difference: str  # candidate - champion; "-": not a number
    limit: str  # what the candidate must be
    passed: bool


UNKNOWN_CHAMPION = Gate("balance figures", "present", "none", "-", "present in both", False)
"""Failed gate for a champion without figures: it has one sensor, or an earlier release registered it."""


def _digest_of_tiles(tiles: Sequence[str]) -> str:
    """Number and checksum of the tiles; the ids of many tiles are longer than a tag in MLflow."""
    return f"{len(tiles)} tiles, sha256 {hashlib.sha256(json.dumps(list(tiles)).encode()).hexdigest()[:12]}"


def headline_scores(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Scores with all sensors of the network, on the protocol's ground truth."""
    scores: Mapping[str, Any] = evaluation["scores"][evaluation["protocol"]["ground_truth"]]
    return scores["+".join(evaluation["protocol"]["model"]["modalities"])]


def judge(
    candidate: PromotionRecord,
    champion: PromotionRecord | None,
    config: RegisterConfig,
    *,
    first: bool = False,
    signature: SignatureCheck = NOT_CHECKED,
) -> tuple[Gate, ...]:
    """Check all gates of a candidate; it may be promoted if every gate is passed.

    Args:
        candidate: figures of the new model.
        champion: figures of the current champion; None: there is none, or it has no figures.
        config: limits of the gates.
        first: whether there is no champion.
        signature: of the candidate's package.
    """
    if candidate.expected_miou is None:
        return (Gate("balance figures", "none: one sensor", "-", "-", "present", False), _signed(signature))
    alone = tuple(_alone(candidate, candidate.expected_miou, config, signature))
    if first:
        return alone
    if champion is None or champion.expected_miou is None:
        return (*alone, UNKNOWN_CHAMPION)
    return (*alone, *_compared(candidate, champion, config))


def _alone(
    candidate: PromotionRecord, expected_miou: float, config: RegisterConfig, signature: SignatureCheck
) -> Iterator[Gate]:
    """Gates that need no champion."""
    if config.require_clean_commit:
        odd = [commit for commit in candidate.commits if not _is_clean(commit)]
        yield Gate("commit", odd[0] if odd else candidate.commits[0][:12], "-", "-", "all code committed", not odd)
    yield _signed(signature)
    if candidate.graph_difference is not None:
        yield _at_most("graph, difference of logits", candidate.graph_difference, candidate.graph_tolerance, "{:.1e}")
    floor = config.min_expected_miou
    yield Gate("expected mIoU, floor", f"{expected_miou:.2f}", "-", "-", f"{floor:.2f} or more", expected_miou >= floor)
    if config.max_latency_ms is not None:
        yield _at_most("graph, latency in ms", candidate.latency_ms, config.max_latency_ms, "{:.1f}")
    if config.max_size_mb is not None:
        yield _at_most("graph, size in MB", candidate.size_mb, config.max_size_mb, "{:.1f}")


def _compared(candidate: PromotionRecord, champion: PromotionRecord, config: RegisterConfig) -> Iterator[Gate]:
    """Gates against the champion."""
    same = candidate.raw_md5 == champion.raw_md5
    yield Gate("data version", candidate.raw_md5, champion.raw_md5, "-", "equal", same)
    yield _same_protocol(candidate.protocol, champion.protocol)
    yield _higher(candidate, champion, config)
    yield _not_fallen("mIoU, both sensors", candidate.miou, champion.miou, config.max_fused_drop)
    for name in champion.sensors:
        theirs, ours = champion.sensors[name], candidate.sensors[name]
        yield _not_fallen(f"mIoU, {name}", ours, theirs, config.max_sensor_drop)
    for name, iou in champion.classes.items():
        if iou is not None and (found := candidate.classes.get(name)) is not None:
            yield _not_fallen(f"IoU, {name}", found, iou, config.max_class_drop)


def _signed(signature: SignatureCheck) -> Gate:
    """The gate of the signature; the section trust says whether one is required."""
    limit = "valid" if signature.required or signature.state in ("valid", "invalid") else "not required"
    return Gate("signature", signature.sentence, "-", "-", limit, signature.passed)


def _is_clean(commit: str) -> bool:
    return len(commit) >= CLEAN_COMMIT and not commit.endswith("-dirty")


def _at_most(name: str, value: float | None, limit: float, form: str) -> Gate:
    passed = value is not None and value <= limit
    found = "no model.onnx; see export.formats" if value is None else form.format(value)
    return Gate(name, found, "-", "-", f"{form.format(limit)} or less", passed)


def _same_protocol(candidate: Mapping[str, Any], champion: Mapping[str, Any]) -> Gate:
    named = (candidate.keys() | champion.keys()) - set(NOT_COMPARED)  # earlier versions recorded more keys
    odd = sorted(key for key in named if candidate.get(key) != champion.get(key))
    theirs, ours = (
        ", ".join(f"{key} {json.dumps(protocol.get(key))}" for key in odd) or "-" for protocol in (champion, candidate)
    )
    return Gate("protocol", ours, theirs, "-", "equal", not odd)


def _higher(candidate: PromotionRecord, champion: PromotionRecord, config: RegisterConfig) -> Gate:
    """The gate of E(p). A difference within the noise of both figures is a tie, which `register.on_tie` decides."""
    assert candidate.expected_miou is not None and champion.expected_miou is not None
    difference = candidate.expected_miou - champion.expected_miou
    noise = ((candidate.noise or 0.0) ** 2 + (champion.noise or 0.0) ** 2) ** 0.5
    tie = abs(difference) <= noise
    passed = config.on_tie == "promote" if tie else difference > 0
    limit = f"a tie: within {noise:.2f}; on_tie is {config.on_tie}" if tie else "higher"
    return Gate(
        "expected mIoU",
        f"{candidate.expected_miou:.2f}",
        f"{champion.expected_miou:.2f}",
        f"{difference:+.2f}",
        limit,
        passed,
    )


def _not_fallen(name: str, candidate: float, champion: float, tolerance: float) -> Gate:
    least = champion - tolerance
    return Gate(
        name,
        f"{candidate:.2f}",
        f"{champion:.2f}",
        f"{candidate - champion:+.2f}",
        f"{least:.2f} or more",
        candidate >= least,
    )
