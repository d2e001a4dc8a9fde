"""The figures of a model card as tables: every one is a value of `evaluation.json`, rounded in one way.

In: the content of `evaluation.json`. Out: tables of text. The rule: figures are rounded to two decimals, as percent
points or ratios; `-` stands for a figure that is not defined. Settings, such as a level of noise, are not rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONDITIONS = {"rgb+dsm": "image and DSM", "rgb": "image only, DSM missing", "dsm": "DSM only, image missing"}
GROUND_TRUTHS = {"eroded": "object boundaries ignored", "full": "every labelled pixel"}
SENSORS = {"rgb": "image", "dsm": "DSM"}

FIGURES = {"oa": "OA", "miou": "mIoU", "mf1": "mF1", "miou_all": "mIoU, all classes"}
"""Scores of a condition and their titles. `evaluation.json` may have intervals of the first three."""

BALANCE = {
    "expected_miou": "expected mIoU E({p}): each sensor fails with probability {p}",
    "average": "mean of the three mIoU",
    "last_1": "the worse single sensor",
    "retention_rgb": "retention without the DSM (ratio)",
    "retention_dsm": "retention without the image (ratio)",
    "shapley_rgb": "Shapley contribution of the image",
    "shapley_dsm": "Shapley contribution of the DSM",
    "imbalance": "imbalance (0: equal contributions, 1: only one sensor contributes)",
    "fusion_gain": "fusion gain over the better single sensor",
    "majority": "mIoU of always predicting the most frequent class",
}
"""Balance figures of the evaluation and their titles, in the order of the card."""

DECIMALS = 2


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text; every row has as many cells as there are columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1  # columns at the left that hold words; the others hold numbers


def rounded(value: float | None) -> float | None:
    """A figure as the card states it, never -0; None: it is not defined."""
    return None if value is None else round(value, DECIMALS) + 0.0


def shown(value: float | None) -> str:
    """`rounded` as text."""
    return "-" if value is None else f"{rounded(value):.{DECIMALS}f}"


def percent(share: float | None) -> float | None:
    """A share of 0..1 in percent."""
    return None if share is None else 100 * share


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """A figure, and its interval in parentheses if there is one."""
    return shown(value) + (f" ({shown(interval[0])} to {shown(interval[1])})" if interval else "")


def score_table(evaluation: Mapping[str, Any]) -> Table:
    """Scores of every ground truth and condition."""
    rows = []
    for truth, by_condition in evaluation["scores"].items():
        known = _intervals(evaluation) if truth == evaluation["protocol"]["ground_truth"] else {}
        for condition, found in by_condition.items():
            cells = [with_interval(found[key], known.get(f"{key}/{condition}")) for key in FIGURES]
            first = f"{truth} ({GROUND_TRUTHS[truth]})"
            rows.append((first, CONDITIONS[condition], *cells, found["worst_class"] or "-"))
    return Table(("ground truth", "sensors", *FIGURES.values(), "worst class"), tuple(rows), 2)


def class_table(evaluation: Mapping[str, Any]) -> Table:
    """IoU of every class under every condition, on the ground truth of the protocol."""
    scores, known = evaluation["scores"][evaluation["protocol"]["ground_truth"]], _intervals(evaluation)
    rows = tuple(
        (
            name,
            *(
                with_interval(found["per_class"][name]["iou"], known.get(f"iou/{condition}/{name}"))
                for condition, found in scores.items()
            ),
        )
        for name in evaluation["protocol"]["classes"]
    )
    return Table(("class", *(CONDITIONS[condition] for condition in scores)), rows)


def difference_table(evaluation: Mapping[str, Any]) -> Table | None:
    """The mIoU of one condition minus that of another; None: there are no intervals, or there is a single condition."""
    found = (evaluation["intervals"] or {}).get("differences", {})
    rows = []
    for pair, difference in found.items():
        one, other = (CONDITIONS[condition] for condition in pair.split(" - "))
        rows.append((f"{one}, minus {other}", *(shown(difference[key]) for key in ("value", "low", "high"))))
    return Table(("difference of the mIoU", "value", "from", "to"), tuple(rows)) if rows else None


def balance_table(evaluation: Mapping[str, Any]) -> Table | None:
    """How well the network uses both sensors; None: it has a single one, or a condition has no tile."""
    balance, known = evaluation["balance"], _intervals(evaluation)
    if balance is None:
        return None
    p = balance["failure_probability"]
    rows = tuple((title.format(p=p), with_interval(balance[key], known.get(key))) for key, title in BALANCE.items())
    return Table(("figure", "value"), rows)


def boundary_table(evaluation: Mapping[str, Any]) -> Table | None:
    """Boundary IoU of every condition and class; None: it was not measured."""
    found = evaluation["boundary"]
    if not found:
        return None
    rows = [("mean", *(shown(one["miou"]) for one in found.values()))]
    rows += [
        (name, *(shown(one["per_class"][name]) for one in found.values())) for name in evaluation["protocol"]["classes"]
    ]
    return Table(("class", *(CONDITIONS[condition] for condition in found)), tuple(rows))


def calibration_table(evaluation: Mapping[str, Any]) -> Table | None:
    """Temperature and calibration error of every condition; None: they were not measured."""
    rows = tuple(
        (
            CONDITIONS[condition],
            shown(found["temperature"]),
            shown(percent(found["ece_before"])),
            shown(percent(found["ece"])),
        )
        for condition, found in evaluation["calibration"].items()
    )
    columns = ("sensors", "temperature", "error without it, %", "error with it, %")
    return Table(columns, rows) if rows else None


def robustness_table(evaluation: Mapping[str, Any]) -> Table | None:
    """Scores of degraded inputs; None: they were not measured."""
    rows = tuple(
        (found["perturbation"], SENSORS[found["sensor"]], _level(found), shown(found["miou"]), shown(found["change"]))
        for found in evaluation["robustness"] or ()
    )
    return Table(("degradation", "sensor", "level", "mIoU", "change"), rows, 3) if rows else None


def _level(found: Mapping[str, Any]) -> str:
    level, unit = found["level"], found["unit"]
    return str(level) if isinstance(level, str) else f"{level:g}" + (f" {unit}" if unit else "")


def _intervals(evaluation: Mapping[str, Any]) -> Mapping[str, Sequence[float] | None]:
    """Name of a figure -> the ends of its interval."""
    return (evaluation["intervals"] or {}).get("figures", {})
