"""The record of an evaluation, stored in `reports/evaluation.json` and described by `evaluation.schema.json`.

In: confusion matrices, the model's facts, the protocol. Out: `Evaluation`, and the numbers that DVC and MLflow compare.
`components/evaluate/trust.py` adds what tells how far the scores can be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from components.common.data.store import Heights
from components.common.exported.graph_layout import Computed
from components.common.inference.modelfile import InitialWeights, ModelFacts
from components.common.scoring.balance import Balance
from components.common.scoring.conditions import GROUND_TRUTHS, Confusions
from components.common.scoring.figures import Figures, figures
from components.common.scoring.metrics import Scores, as_json
from components.common.uncertainty.calibration import Reliability
from components.common.uncertainty.intervals import Intervals
from components.evaluate.worst_crops import WorstCrop

FORMAT = 2
"""Format version; increased when a current reader could misread an older file."""

MISSING_MODALITY = {
    "zero": "filled with 0 after normalisation",
    "excluded": "left out of prompts and gates, patch by patch",
}
"""`model.missing` -> what replaces a missing sensor."""

OVERLAP = "mean of the logits of all windows over a pixel"


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """The evaluated network and how it was trained."""

    sha256: str  # of the weight file
    backbone: str
    modalities: tuple[str, ...]
    step: int  # training step of the selected checkpoint
    seed: int
    dataset: str
    source: str
    split: str
    data_md5: str  # data version of the training
    git_commit: str  # code of the training
    tool_version: str  # version of this project at the training
    validation: dict[str, float | None]  # scores on the validation tiles at that step, percent points
    mlflow_run_id: str | None  # MLflow run of the training; None: not tracked
    initial_weights: InitialWeights  # weights that the training started from, with their licence


@dataclass(frozen=True, slots=True)
class Protocol:
    """Conditions of the evaluation. Figures are comparable only if their protocols agree."""

    dataset: str
    source: str
    split: str
    subset: str
    tiles: tuple[str, ...]
    classes: tuple[str, ...]
    mean_classes: tuple[str, ...]  # classes that count in miou and mf1
    ground_truth: str  # ground truth of the balance and headline figures
    missing_modality: str  # replacement for a missing sensor
    window_px: int  # side of a window, pixels
    stride_px: int  # step between windows, pixels
    overlap: str  # how overlapping windows are merged
    precision: Computed  # of the computation: the training's, or that of an exported file
    gsd_m: float  # ground sample distance, metres per pixel
    bands: tuple[str, ...]  # image bands, in order
    heights: Heights  # how heights in metres are scaled to DSM values
    data_md5: str  # data version of the evaluation
    raw_md5: str  # raw files, split and reading of labels; comparable figures share it
    git_commit: str  # code of the evaluation
    tool_version: str  # version of this project at the evaluation
    device: str  # cpu or cuda
    model: TrainedModel
    tiles_by_condition: dict[str, tuple[str, ...]]  # the tiles that have the sensors of a condition


@dataclass(frozen=True, slots=True)
class Boundary:
    """Boundary IoU of one condition on the full ground truth, percent points; NaN: the class does not occur."""

    width_px: int  # distance from an outline up to which pixels count, pixels
    miou: float  # mean over the classes that count in means
    per_class: dict[str, float]  # in label order


@dataclass(frozen=True, slots=True)
class Degraded:
    """The scores of one degradation of the inputs, with all sensors of the network."""

    perturbation: str  # its kind
    sensor: str  # the degraded sensor: rgb or dsm
    level: float | str  # how strong it is; the name of a lost band
    unit: str | None  # of the level
    miou: float  # percent points, on the protocol's ground truth
    change: float  # of the mIoU against the intact inputs, percent points


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of one checkpoint on the test tiles."""

    format: int
    scores: dict[str, dict[str, Scores]]  # ground truth -> condition
    balance: Balance | None  # on the tiles that have all sensors; None: single-modality network
    confusion: dict[str, dict[str, list[list[int]]]]  # ground truth -> condition -> pixel counts; rows are the truth
    protocol: Protocol
    warnings: tuple[str, ...]  # sentences: data problems to know before using the figures
    intervals: Intervals | None = None  # of the figures; None: blocks were not counted
    boundary: dict[str, Boundary] = field(default_factory=dict)  # by condition
    calibration: dict[str, Reliability] = field(default_factory=dict)  # by condition, on the protocol's ground truth
    robustness: tuple[Degraded, ...] | None = None  # None: `evaluate.robustness` is off
    worst_crops: tuple[WorstCrop, ...] = ()  # the crops with the largest share of errors, the worst first

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions; the first has all sensors of the network."""
        return tuple(self.scores[self.protocol.ground_truth])

    @property
    def headline(self) -> Scores:
        """Scores with all sensors of the network, on the protocol's ground truth."""
        return self.scores[self.protocol.ground_truth][self.conditions[0]]


def trained_model(facts: ModelFacts, sha256: str) -> TrainedModel:
    """The record of the network, from the facts in its weight file; `sha256` is that file's checksum."""
    return TrainedModel(
        sha256=sha256,
        backbone=facts.network.backbone,
        modalities=facts.network.modalities,
        step=facts.step,
        seed=facts.seed,
        dataset=facts.dataset,
        source=facts.source,
        split=facts.split,
        data_md5=facts.data_md5,
        git_commit=facts.git_commit,
        tool_version=facts.tool_version,
        validation=facts.validation,
        mlflow_run_id=facts.mlflow_run_id,
        initial_weights=facts.initial_weights,
    )


def evaluation(
    totals: Confusions,
    facts: ModelFacts,
    protocol: Protocol,
    failure_probability: float,
    warnings: tuple[str, ...],
    paired: Confusions | None = None,
) -> Evaluation:
    """Turn confusion matrices over all test tiles into the scores and balance of the record.

    Args:
        totals: condition -> ground truth -> `[K, K]` pixel counts.
        facts: facts of the model; its classes label the rows and columns.
        protocol: how the matrices were computed.
        failure_probability: p of the expected mIoU.
        warnings: sentences about the data.
        paired: `totals` over the tiles that count under every condition, for the balance: it compares conditions, so
            they must have the same tiles. None: all tiles do.
    """
    by_truth = {truth: {name: counts[truth] for name, counts in totals.items()} for truth in GROUND_TRUTHS}
    found = {
        truth: figures(matrices, facts.classes, facts.in_means, failure_probability)
        for truth, matrices in by_truth.items()
    }
    compared = {name: counts[protocol.ground_truth] for name, counts in (paired or totals).items()}
    counts_as_lists = {
        truth: {name: np.asarray(counts_KK).tolist() for name, counts_KK in matrices.items()}
        for truth, matrices in by_truth.items()
    }
    return Evaluation(
        FORMAT,
        {truth: of_truth.scores for truth, of_truth in found.items()},
        figures(compared, facts.classes, facts.in_means, failure_probability).balance,
        counts_as_lists,
        protocol,
        warnings,
    )


def comparable_metrics(record: Evaluation) -> dict[str, float]:
    """The numbers for a table of runs, as a flat mapping; undefined ones are left out.

    `miou`, `oa` and so on are for all sensors of the network on the protocol's ground truth. `miou_full_truth` is for
    the full labels. Conditions with a sensor missing have names that end with `_rgb` and `_dsm`. `_low` and `_high` are
    the ends of an interval.
    """
    named: dict[str, float | None] = {}
    named |= Figures(record.scores[record.protocol.ground_truth], record.balance).by_name()
    of_single = record.scores[record.protocol.ground_truth] if record.balance else {}
    named |= {
        f"miou_{name}": of_single[name].miou for name in ("rgb", "dsm") if name in of_single
    }  # of all their tiles
    named["miou_all"] = record.headline.miou_all
    named["miou_full_truth"] = record.scores["full"][record.conditions[0]].miou
    of_all = record.conditions[0]
    for condition in record.conditions:
        ending = "" if condition == of_all else f"_{condition}"
        if condition in record.boundary:
            named[f"boundary_iou{ending}"] = record.boundary[condition].miou
        if condition in record.calibration:
            named[f"ece{ending}"] = record.calibration[condition].ece
        named |= _ends(record.intervals, f"miou/{condition}", f"miou{ending}")
    named |= _ends(record.intervals, "expected_miou", "expected_miou")
    return {name: value for name, value in as_json(named).items() if value is not None}


def _ends(intervals: Intervals | None, figure: str, name: str) -> dict[str, float]:
    """The two ends of an interval by name; empty: there is none."""
    ends = intervals.figures.get(figure) if intervals else None
    return dict(zip((f"{name}_low", f"{name}_high"), ends, strict=True)) if ends else {}
