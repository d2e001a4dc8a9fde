"""The rows of the report's tables and plots.

In: an `Evaluation`, the manifest. Out: rows with titles, values and intervals, for `report.html.j2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.common.data.store import Manifest
from components.common.scoring.balance import Balance
from components.common.scoring.metrics import percent
from components.evaluate import interpretation
from components.evaluate.record import Degraded, Evaluation


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Scores of one class under every condition."""

    name: str
    title: str
    rgb: tuple[int, int, int]
    counts: bool  # whether it counts in the means
    share: float  # share of the labelled pixels, percent
    iou: dict[str, float]  # by condition; NaN: undefined
    f1: float  # f1, precision and recall: under the first condition
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference of the mIoU between two conditions, percent points."""

    title: str
    value: float
    spread: str  # its interval as text; empty: there is none
    noise: bool  # whether the interval contains 0


@dataclass(frozen=True, slots=True)
class Perturbed:
    """Scores of one kind of degraded input, by level."""

    title: str
    rows: tuple[tuple[str, float, float], ...]  # level with its unit, mIoU, change; percent points


def class_rows(record: Evaluation, manifest: Manifest) -> list[ClassRow]:
    """One row per class, in label order."""
    by_condition = record.scores[record.protocol.ground_truth]
    first = record.headline.per_class
    labelled = sum(found.pixels for found in first.values())
    return [
        ClassRow(
            name=name,
            title=title(name),
            rgb=rgb,
            counts=counts,
            share=100 * first[name].pixels / labelled,
            iou={condition: found.per_class[name].iou for condition, found in by_condition.items()},
            f1=first[name].f1,
            precision=first[name].precision,
            recall=first[name].recall,
        )
        for name, rgb, counts in zip(manifest.classes, manifest.palette, manifest.in_means, strict=True)
    ]


def title(name: str) -> str:
    """A name as a title: `low_vegetation` -> `Low vegetation`."""
    words = interpretation.spoken(name)
    return words[:1].upper() + words[1:]


def legend(manifest: Manifest) -> list[tuple[str, tuple[int, int, int]]]:
    """Title and colour of every class, and of pixels without a label."""
    named = [(title(name), rgb) for name, rgb in zip(manifest.classes, manifest.palette, strict=True)]
    return [*named, ("Not labelled", (0, 0, 0))]


def confusion_shares(record: Evaluation) -> dict[str, list[list[float]]]:
    """Condition -> confusion matrix in percent of the true class (row); NaN: the class is not in the truth."""
    shares = {}
    for condition, counts in record.confusion[record.protocol.ground_truth].items():
        counts_KK = np.asarray(counts)
        totals_KK = np.broadcast_to(counts_KK.sum(axis=1, keepdims=True), counts_KK.shape)
        shares[condition] = percent(counts_KK, totals_KK).tolist()
    return shares


def differences(record: Evaluation) -> list[Difference]:
    """Every difference of the mIoU between two conditions, on the pixels of both; without blocks, of the scores."""
    scores, found = record.scores[record.protocol.ground_truth], []
    for one, other in (("rgb+dsm", "rgb"), ("rgb+dsm", "dsm"), ("rgb", "dsm")):
        if one in scores and other in scores:
            name = f"{interpretation.TITLES[one]} minus {interpretation.TITLES[other].replace('Image', 'image')}"
            known = interpretation.difference(record, f"{one} - {other}")
            value, low, high = known or (scores[one].miou - scores[other].miou, None, None)
            if low is None or high is None:
                found.append(Difference(name, value, "", False))
            else:
                found.append(Difference(name, value, interpretation.between(low, high, signed=True), low <= 0 <= high))
    return found


def perturbed(record: Evaluation) -> list[Perturbed]:
    """The degraded inputs by kind, in the order of the record; empty: they were not scored."""
    kinds: dict[str, list[Degraded]] = {}
    for row in record.robustness or ():
        sensor = interpretation.SENSORS.get(row.sensor, row.sensor)
        kinds.setdefault(f"{title(row.perturbation)}, {sensor}", []).append(row)
    return [
        Perturbed(kind, tuple((_level(row.level, row.unit), row.miou, row.change) for row in rows))
        for kind, rows in kinds.items()
    ]


def _level(level: float | str, unit: str | None) -> str:
    text = interpretation.spoken(level) if isinstance(level, str) else f"{level:g}"
    return f"{text}\N{NO-BREAK SPACE}{unit}" if unit else text


def coverage(record: Evaluation) -> dict[str, str]:
    """Condition -> its share of the test tiles as text; empty if every tile counts under every condition."""
    tiles, total = record.protocol.tiles_by_condition, len(record.protocol.tiles)
    if interpretation.same_tiles(record):
        return {}
    return {condition: f"{len(found)} of {total} tiles" for condition, found in tiles.items()}


def definitions(b: Balance) -> Sequence[tuple[str, str, str, str]]:
    """Every balance figure: name, value, name of its interval, meaning."""

    def points(value: float) -> str:
        return f"{value:.1f}"

    def ratio(value: float) -> str:
        return "–" if np.isnan(value) else f"{value:.2f}"

    p = f"{b.failure_probability:g}"
    expected = f"each sensor fails with probability {p}, at least one works"
    shapley = "Shapley value, points above the most frequent class"
    return (
        (f"Expected mIoU, E({p})", points(b.expected_miou), "expected_miou", expected),
        ("Average", points(b.average), "", "mean of both sensors, image only and DSM only"),
        ("Last-1", points(b.last_1), "", "the lower of the two single-sensor values"),
        ("Retention without the DSM", ratio(b.retention_rgb), "", "mIoU of the image only as a share of the fused one"),
        ("Retention without the image", ratio(b.retention_dsm), "", "mIoU of the DSM only as a share of the fused one"),
        ("Contribution of the image", points(b.shapley_rgb), "", shapley),
        ("Contribution of the DSM", points(b.shapley_dsm), "", shapley),
        ("Imbalance", ratio(b.imbalance), "", "0: both sensors contribute equally, 1: one contributes everything"),
        ("Fusion gain", f"{b.fusion_gain:+.1f}", "", "points above the better single sensor"),
        ("Most frequent class", points(b.majority), "", "mIoU of always predicting the most frequent class"),
    )
