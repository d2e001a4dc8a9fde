"""From the confusion matrices of all conditions to the figures that training, evaluation and ablations compare.

In: one matrix per condition, on one ground truth. Out: scores and balance, and the same as numbers by name. This module
has the only table of names: validation.csv, metrics.json and the results of ablations use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from components.common.scoring.balance import Balance, balance, majority_miou
from components.common.scoring.counts import Confusion
from components.common.scoring.metrics import Scores, scores

NAMES: dict[str, str | None] = {"both": None, "rgb": "miou_rgb", "dsm": "miou_dsm", "failure_probability": None}
"""Fields of `Balance` with another name in a table. None: left out, because `miou` or the protocol has the value."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one checkpoint on the same tiles and ground truth."""

    scores: dict[str, Scores]  # by condition; the first has all sensors of the network
    balance: Balance | None  # None: single-modality network, or a condition has no tile

    @property
    def headline(self) -> Scores:
        """Scores with all sensors of the network."""
        return next(iter(self.scores.values()))

    @property
    def expected_miou(self) -> float:
        """E(p), percent points; for a single-modality network, its mIoU."""
        return self.headline.miou if self.balance is None else self.balance.expected_miou

    def by_name(self) -> dict[str, float]:
        """The numbers by name; percent points or ratios. An undefined value is NaN.

        `miou`, `oa`, `mf1` and `worst_class_iou` are for all sensors of the network. Names that do not apply are
        left out: the balance of a single-modality network, and the worst class if no class occurs.
        """
        own = self.headline
        found = {"miou": own.miou, "oa": own.oa, "mf1": own.mf1}
        if own.worst_class is not None:
            found["worst_class_iou"] = own.per_class[own.worst_class].iou
        fields: dict[str, float] = asdict(self.balance) if self.balance else {}
        named = {NAMES.get(field, field): value for field, value in fields.items()}
        return found | {name: value for name, value in named.items() if name is not None}


def figures(
    confusions: Mapping[str, Confusion], classes: Sequence[str], in_means: Sequence[bool], failure_probability: float
) -> Figures:
    """Compute all figures.

    Args:
        confusions: condition -> `[K, K]` pixel counts, as `conditions.confusions` returns them for one ground truth.
        classes: K names in label order.
        in_means: which classes count in the means.
        failure_probability: p of the expected mIoU, 0 <= p < 1.
    """
    scored = {name: scores(matrix_KK, classes, in_means) for name, matrix_KK in confusions.items()}
    if len(scored) < 3:
        return Figures(scored, None)
    majority = majority_miou(confusions["rgb+dsm"], in_means)
    v = [scored[name].miou for name in ("rgb+dsm", "rgb", "dsm")]
    return Figures(scored, balance(v[0], v[1], v[2], majority, failure_probability))
