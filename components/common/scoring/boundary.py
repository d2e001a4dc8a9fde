"""Boundary IoU: how well the outlines of a class agree, after Cheng et al., arXiv 2103.16562.

Of a class in a map, only the pixels within a fixed distance of its own outline count. Their intersection over union,
of the ground truth and the prediction, does not depend on the interior of large objects.
Differences from the paper: the distance is fixed in pixels, because tiles have no size of their own; and neither the
edge of a tile nor a pixel that the ground truth ignores is an outline, because what is beyond is not known.
In: class maps of a tile on a device. Out: pixel counts per class. Letters: K classes, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from components.common.data.datasets import IGNORE

WIDTH_PX = 3
"""Distance from an outline up to which pixels count, pixels, along rows and columns; the benchmark erodes as much."""


class Outlines:
    """The outlines of the ground truth of a tile, to compare predictions with."""

    def __init__(self, truth_HW: Tensor, num_classes: int, width_px: int = WIDTH_PX) -> None:
        """Find the pixels near the outlines of the truth.

        Args:
            truth_HW: class values 0..K-1, uint8; 255 is ignored.
            num_classes: K.
            width_px: distance up to which pixels count, pixels, >= 1.
        """
        self._truth_HW, self._num_classes, self._width_px = truth_HW, num_classes, width_px
        self._ignored_HW = truth_HW == IGNORE
        self._near_HW = near_outline(truth_HW, self._ignored_HW, width_px)

    def counts(self, predicted_HW: Tensor) -> Tensor:
        """Intersection and union of the pixels near the outlines of every class, int64 `[K, 2]`, on the device.

        Args:
            predicted_HW: class values 0..K-1, uint8, on the device of the truth.
        """
        near_HW = near_outline(predicted_HW, self._ignored_HW, self._width_px)
        shared_HW = self._near_HW & near_HW & (self._truth_HW == predicted_HW)
        shared_K, truth_K, predicted_K = (
            torch.bincount(classes_HW.masked_fill(~counted_HW, IGNORE).flatten(), minlength=IGNORE + 1)
            for classes_HW, counted_HW in (
                (predicted_HW, shared_HW),
                (self._truth_HW, self._near_HW),
                (predicted_HW, near_HW),
            )
        )
        return torch.stack([shared_K, truth_K + predicted_K - shared_K], dim=1)[: self._num_classes]


def near_outline(classes_HW: Tensor, ignored_HW: Tensor, width_px: int = WIDTH_PX) -> Tensor:
    """Whether a pixel of another class is within `width_px` rows and columns of a pixel, `[H, W]`.

    Args:
        classes_HW: class values 0..253, uint8.
        ignored_HW: pixels that are neither near an outline nor make one.
        width_px: distance, pixels, >= 1.
    """
    values_HW = classes_HW + 1
    highest_HW = _window(values_HW.masked_fill(ignored_HW, 0), width_px, torch.maximum, 0)
    lowest_HW = _window(values_HW.masked_fill(ignored_HW, IGNORE), width_px, torch.minimum, IGNORE)
    return ((highest_HW != values_HW) | (lowest_HW != values_HW)) & ~ignored_HW


def _window(values_HW: Tensor, width_px: int, extreme: Callable[[Tensor, Tensor], Tensor], beyond: int) -> Tensor:
    """The extreme value of the square of `2 width + 1` pixels around every pixel, in few passes over the map."""
    found, side = F.pad(values_HW, [width_px] * 4, value=beyond), 2 * width_px + 1
    for axis in (0, 1):
        span = 1
        while span < side:
            step = min(span, side - span)
            kept = found.shape[axis] - step
            found = extreme(found.narrow(axis, 0, kept), found.narrow(axis, step, kept))
            span += step
    return found


def boundary_iou(counts_K2: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Boundary IoU per class, percent; NaN for a class without an outline in both maps."""
    shared_K, union_K = counts_K2.T.astype(float)
    return np.divide(100 * shared_K, union_K, out=np.full(len(counts_K2), np.nan), where=union_K > 0)
