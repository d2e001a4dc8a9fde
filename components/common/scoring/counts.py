"""Count pixels by true and predicted class, and by confidence, on the device of the maps.

In: class maps and logits as tensors. Out: a confusion matrix of integers, equal on every device; histograms of
confidences. Letters: K classes, T temperatures, B bins, h W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.common.data.datasets import IGNORE

Confusion = npt.NDArray[np.int64]
"""`[K, K]` pixel counts; rows are the true classes, columns the predicted ones."""


class Counter:
    """Counts the pixels of one map in parts. The counts stay on the device until they are read."""

    def __init__(self, num_classes: int) -> None:
        """Start with no pixel of `num_classes` classes."""
        self._num_classes = num_classes
        self._total: Tensor | None = None

    def add(self, truth: Tensor, predicted: Tensor) -> None:
        """Count the pixels of one part of the map.

        Args:
            truth: class values 0..K-1, uint8, of any shape; 255 is not counted.
            predicted: class values 0..K-1 of the same shape, of any integer type, on the same device.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"truth is {tuple(truth.shape)}, prediction {tuple(predicted.shape)}")
        pairs = truth.flatten().long() * self._num_classes + predicted.flatten()
        counts = torch.bincount(pairs, minlength=(IGNORE + 1) * self._num_classes)
        self._total = counts if self._total is None else self._total + counts

    def matrix(self) -> Confusion:
        """The confusion matrix of everything counted so far. The matrices of several maps can be added up.

        Raises:
            ValueError: a counted value of the truth is not in 0..K-1.
        """
        k = self._num_classes
        if self._total is None:
            return np.zeros((k, k), np.int64)
        by_truth = self._total.cpu().numpy().reshape(IGNORE + 1, k)
        if by_truth[k:IGNORE].any():
            stray = k + int(by_truth[k:IGNORE].any(axis=1).argmax())
            raise ValueError(f"class {stray} in a map of {k} classes")
        return by_truth[:k].astype(np.int64)


def confusion(truth: Tensor, predicted: Tensor, num_classes: int) -> Confusion:
    """The confusion matrix of one map of any shape; see `Counter.add`."""
    counter = Counter(num_classes)
    counter.add(truth, predicted)
    return counter.matrix()


BINS = 15
"""Bins of equal width of a calibration histogram; bin `i` holds confidences above `i / 15` up to `(i + 1) / 15`."""

STEPS = 2**24
"""Steps per unit in which confidences are added up: the precision of float32, as integers, whose sums are exact."""


class Calibration:
    """Counts pixels by the confidence of their class: how many, how confident, how many correct.

    The confidence is the largest softmax of the logits divided by a temperature. The counts stay on the device until
    they are read.
    """

    def __init__(self, temperatures: Sequence[float]) -> None:
        """Start with no pixel; one histogram per temperature."""
        self._temperatures = tuple(temperatures)
        self._total_TB3: Tensor | None = None

    def add(self, truth_hW: Tensor, logits_KhW: Tensor) -> None:
        """Count the pixels of one part of a map.

        Args:
            truth_hW: class values 0..K-1, uint8; 255 is not counted.
            logits_KhW: float32, on the same device. Where one is NaN or infinite, the confidence is 0; `bands` reports
                that as an error when the map is complete.
        """
        highest_hW, classes_hW = logits_KhW.max(0)
        below_KhW = logits_KhW - highest_hW
        correct_hW, ignored_hW = classes_hW == truth_hW, truth_hW == IGNORE
        shares = {t: (below_KhW / t).exp_().sum(0).reciprocal_().nan_to_num_(0) for t in set(self._temperatures)}
        counted = {t: _histogram(share_hW, correct_hW, ignored_hW) for t, share_hW in shares.items()}
        found_TB3 = torch.stack([counted[t] for t in self._temperatures])
        self._total_TB3 = found_TB3 if self._total_TB3 is None else self._total_TB3 + found_TB3

    def histograms(self) -> npt.NDArray[np.float64]:
        """`[temperatures, BINS, 3]`: pixels, sum of their confidences, correct pixels."""
        if self._total_TB3 is None:
            return np.zeros((len(self._temperatures), BINS, 3))
        return self._total_TB3.cpu().numpy() / np.array([1, STEPS, 1])


def _histogram(confidence_hW: Tensor, correct_hW: Tensor, ignored_hW: Tensor) -> Tensor:
    """Pixels, summed confidence in `STEPS`, and correct pixels per bin, int64 `[BINS, 3]`."""
    bins_hW = (confidence_hW * BINS).ceil_().sub_(1).clamp_(0, BINS - 1).masked_fill_(ignored_hW, BINS).long()
    pixels_B2 = torch.bincount((2 * bins_hW + correct_hW).flatten(), minlength=2 * BINS + 2).reshape(BINS + 1, 2)
    steps_B = torch.zeros(BINS + 1, dtype=torch.int64, device=bins_hW.device)
    steps_B.scatter_add_(0, bins_hW.flatten(), (confidence_hW * STEPS).long().flatten())
    return torch.stack([pixels_B2.sum(1), steps_B, pixels_B2[:, 1]], dim=1)[:BINS]
