"""Label layers of a tile, row by row: decoded, counted, ignored where nothing is known, and eroded where no file is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.common.data.datasets import IGNORE
from components.common.data.labels import Labels, Legend, Unknown, decode, require_known
from components.common.readers.rasters import Mask
from components.preprocess.layers import Layer

RADIUS_PX = 3
"""Labels within this distance of another class are ignored in an eroded label, as ISPRS made its own."""


class LabelReader:
    """Decodes a label layer and counts what was not exact, over all rows."""

    def __init__(self, layer: Layer, legend: Legend) -> None:
        """Read from a layer by a legend."""
        self._layer = layer
        self._legend = legend
        self._example: Unknown | None = None
        self.told_by = "colour" if legend.colours else "value"
        self.snapped_px = 0
        self.unknown_px = 0

    def rows(self, rows: slice, hidden_hW: Mask | None) -> Labels:
        """Classes of some rows, `[h, W]`; 255 where `hidden_hW` is true, and where the layer knows nothing."""
        picture_BhW, missing_hW = self._layer.picture(rows)
        decoded = decode(picture_BhW, self._legend, missing_hW)
        self.snapped_px += decoded.snapped_px
        self.unknown_px += decoded.unknown_px
        if decoded.unknown is not None and self._example is None:
            self._example = replace(decoded.unknown, row=decoded.unknown.row + rows.start)
        if hidden_hW is not None:
            decoded.y_HW[hidden_hW] = IGNORE
        return decoded.y_HW

    def require_known(self, path: Path, all_px: int, max_share: float) -> None:
        """Refuse a file with too many pixels of no class; errors as with `labels.require_known`."""
        require_known(path, self.unknown_px, all_px, self._example, max_share)


def class_counts(y_hW: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Pixels of each class."""
    return np.array([np.count_nonzero(y_hW == label) for label in range(classes)], np.int64)


def eroded(y_HW: Labels) -> Labels:
    """The labels without those within `RADIUS_PX` of another class; what is ignored takes nothing away beside it."""
    result_HW = y_HW.copy()
    for here, there in _neighbours(y_HW.shape):
        one, other = y_HW[here], y_HW[there]
        differ = (one != other) & (one != IGNORE) & (other != IGNORE)
        if differ.any():
            result_HW[here][differ] = IGNORE
            result_HW[there][differ] = IGNORE
    return result_HW


def _neighbours(shape: tuple[int, ...]) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Every pair of places within the radius, once: slices of one side and of the other."""
    height, width = shape
    for down, right in product(range(RADIUS_PX + 1), range(-RADIUS_PX, RADIUS_PX + 1)):
        if (down, right) <= (0, 0) or down**2 + right**2 > RADIUS_PX**2:
            continue
        left = max(0, -right), max(0, right)
        columns = [slice(start, max(start, width - other)) for start, other in (left, left[::-1])]
        yield (slice(0, max(0, height - down)), columns[0]), (slice(min(down, height), height), columns[1])
