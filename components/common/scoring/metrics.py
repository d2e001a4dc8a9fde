"""Segmentation metrics: OA, IoU, F1, precision and recall of a confusion matrix.

Every score is in percent points, 0..100. A class that occurs neither in the truth nor in the prediction has the score
NaN, which means leave out and JSON stores as `null`. Letters: K classes. Needs only NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores of one class, percent points; NaN if the class occurs neither in the truth nor in the prediction."""

    iou: float
    f1: float
    precision: float  # NaN: the class is never predicted
    recall: float  # NaN: the class is not in the truth
    pixels: int  # pixels of this class in the truth


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one confusion matrix, percent points."""

    oa: float  # overall accuracy: share of correct pixels, over all classes
    miou: float  # mean IoU over the classes that count in means (ISPRS: all but clutter)
    mf1: float  # mean F1 over the same classes
    miou_all: float  # mean IoU over all classes
    mf1_all: float  # mean F1 over all classes
    worst_class: str | None  # class with the lowest IoU of those that count in means; None: none of them occurs
    per_class: dict[str, ClassScores]  # in label order


def scores(confusion_KK: npt.NDArray[np.int64], classes: Sequence[str], in_means: Sequence[bool]) -> Scores:
    """All scores of a confusion matrix.

    Args:
        confusion_KK: pixel counts; rows are the truth.
        classes: K names in label order.
        in_means: which classes count in `miou` and `mf1`.
    """
    hits_K = np.diag(confusion_KK).astype(float)
    truth_K, predicted_K = confusion_KK.sum(axis=1), confusion_KK.sum(axis=0)
    iou_K = percent(hits_K, truth_K + predicted_K - hits_K)
    f1_K = percent(2 * hits_K, truth_K + predicted_K)
    precision_K, recall_K = percent(hits_K, predicted_K), percent(hits_K, truth_K)
    counted = np.asarray(in_means, bool) & ~np.isnan(iou_K)
    worst = classes[int(np.argmin(np.where(counted, iou_K, np.inf)))] if counted.any() else None
    return Scores(
        oa=float(percent(hits_K.sum(), truth_K.sum())),
        miou=mean(iou_K[counted]),
        mf1=mean(f1_K[counted]),
        miou_all=mean(iou_K),
        mf1_all=mean(f1_K),
        worst_class=worst,
        per_class={
            name: ClassScores(float(iou), float(f1), float(precision), float(recall), int(pixels))
            for name, iou, f1, precision, recall, pixels in zip(
                classes, iou_K, f1_K, precision_K, recall_K, truth_K, strict=True
            )
        },
    )


def percent(part: npt.ArrayLike, whole: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """`100 * part / whole`; NaN where `whole` is 0."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(100.0 * part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def mean(values: npt.NDArray[np.float64]) -> float:
    """Mean of the values, of any shape, that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def as_json(record: object, digits: int = 4) -> Any:
    """A record as JSON content: dataclasses become objects, NaN becomes null, floats are rounded to `digits`."""
    if is_dataclass(record) and not isinstance(record, type):
        return as_json(asdict(record), digits)
    if isinstance(record, Mapping):
        return {key: as_json(value, digits) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [as_json(value, digits) for value in record]
    if isinstance(record, float):
        return round(record, digits) if math.isfinite(record) else None
    return record
