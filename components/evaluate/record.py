"""The record of an evaluation, stored in `reports/evaluation.json` and described by `evaluation.schema.json`.

In: confusion matrices, the model's facts, the protocol. Out: `Evaluation`, and the numbers that DVC and MLflow compare.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from components.common.data.store import Heights
from components.common.inference.modelfile import ModelFacts
from components.common.scoring.balance import Balance, balance, majority_miou
from components.common.scoring.conditions import GROUND_TRUTHS, Confusions
from components.common.scoring.metrics import Scores, as_json, scores

FORMAT = 1
"""Format version; increased when a current reader could misread an older file."""

MISSING_MODALITY = "filled with 0 after normalisation"
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
    validation: dict[str, float]  # scores on the validation tiles at that step, percent points
    mlflow_run_id: str | None  # MLflow run of the training; None: not tracked


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
    gsd_m: float  # ground sample distance, metres per pixel
    bands: tuple[str, ...]  # image bands, in order
    heights: Heights  # how heights in metres are scaled to DSM values
    data_md5: str  # data version of the evaluation
    git_commit: str  # code of the evaluation
    tool_version: str  # version of this project at the evaluation
    device: str  # cpu or cuda
    model: TrainedModel


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of one checkpoint on the test tiles."""

    format: int
    scores: dict[str, dict[str, Scores]]  # ground truth -> condition
    balance: Balance | None  # None: single-modality network
    confusion: dict[str, dict[str, list[list[int]]]]  # ground truth -> condition -> pixel counts; rows are the truth
    protocol: Protocol
    warnings: tuple[str, ...]  # sentences: data problems to know before using the figures

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
    )


def evaluation(
    totals: Confusions, facts: ModelFacts, protocol: Protocol, failure_probability: float, warnings: tuple[str, ...]
) -> Evaluation:
    """Turn confusion matrices over all test tiles into the record.

    Args:
        totals: condition -> ground truth -> `[K, K]` pixel counts.
        facts: facts of the model; its classes label the rows and columns.
        protocol: how the matrices were computed.
        failure_probability: p of the expected mIoU.
        warnings: sentences about the data.
    """
    by_truth = {truth: {name: counts[truth] for name, counts in totals.items()} for truth in GROUND_TRUTHS}
    figures = {
        truth: {name: scores(counts_KK, facts.classes, facts.in_means) for name, counts_KK in matrices.items()}
        for truth, matrices in by_truth.items()
    }
    main = figures[protocol.ground_truth]
    balanced = None
    if len(main) > 1:
        v0 = majority_miou(by_truth[protocol.ground_truth]["rgb+dsm"], facts.in_means)
        balanced = balance(main["rgb+dsm"].miou, main["rgb"].miou, main["dsm"].miou, v0, failure_probability)
    counts_as_lists = {
        truth: {name: np.asarray(counts_KK).tolist() for name, counts_KK in matrices.items()}
        for truth, matrices in by_truth.items()
    }
    return Evaluation(FORMAT, figures, balanced, counts_as_lists, protocol, warnings)


def comparable_metrics(record: Evaluation) -> dict[str, float]:
    """The numbers for a table of runs, as a flat mapping; undefined ones are left out.

    `miou`, `oa` and so on are for all sensors of the network on the protocol's ground truth. `miou_full_truth` is for
    the full labels.
    """
    best = record.headline
    condition = record.conditions[0]
    worst = best.per_class[best.worst_class].iou if best.worst_class else None
    numbers: dict[str, float | None] = {
        "oa": best.oa,
        "miou": best.miou,
        "mf1": best.mf1,
        "miou_all": best.miou_all,
        "worst_class_iou": worst,
        "miou_full_truth": record.scores["full"][condition].miou,
    }
    if record.balance is not None:
        figures = asdict(record.balance)
        numbers |= {"miou_rgb": figures.pop("rgb"), "miou_dsm": figures.pop("dsm")}
        numbers |= {name: value for name, value in figures.items() if name not in ("both", "failure_probability")}
    return {name: value for name, value in as_json(numbers).items() if value is not None}
