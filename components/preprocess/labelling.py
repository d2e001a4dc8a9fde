"""Labels of a tile: counted per class, and eroded where the data set has no eroded files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import numpy.typing as npt

from components.common.data.datasets import IGNORE
from components.common.data.legend import Labels

RADIUS_PX = 3
"""Labels within this distance of another class are ignored in an eroded label, as ISPRS made its own."""


def class_counts(y_hW: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Pixels of each class."""
    return np.array([np.count_nonzero(y_hW == label) for label in range(classes)], np.int64)


def eroded(y_HW: Labels) -> Labels:
    """The labels without those within `RADIUS_PX` of another class; ignored pixels erode nothing next to them."""
    result_HW = y_HW.copy()
    for here, there in _neighbours(y_HW.shape):
        one, other = y_HW[here], y_HW[there]
        differ = (one != other) & (one != IGNORE) & (other != IGNORE)
        if differ.any():
            result_HW[here][differ] = IGNORE
            result_HW[there][differ] = IGNORE
    return result_HW


def _neighbours(shape: tuple[int, ...]) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Every pair of pixels within the radius, once: slices of one side and of the other."""
    height, width = shape
    for down, right in product(range(RADIUS_PX + 1), range(-RADIUS_PX, RADIUS_PX + 1)):
        if (down, right) <= (0, 0) or down**2 + right**2 > RADIUS_PX**2:
            continue
        left = max(0, -right), max(0, right)
        columns = [slice(start, max(start, width - other)) for start, other in (left, left[::-1])]
        yield (slice(0, max(0, height - down)), columns[0]), (slice(min(down, height), height), columns[1])
