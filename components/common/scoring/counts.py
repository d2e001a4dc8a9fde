"""Count pixels by true and predicted class, on the device of the maps.

In: class maps as tensors. Out: a confusion matrix of integers, equal on every device. Letters: K classes.
"""

from __future__ import annotations

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
