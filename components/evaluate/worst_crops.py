"""The crops of the test tiles with the most errors, with their pixels and their three largest confusions.

In: a tile, its predicted class map. Out: crops, the worst first. Errors are counted on the protocol's ground truth.
Letters: H W size of the tile, h w size of a crop, pixels; K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.common.data.datasets import IGNORE
from components.common.data.store import Tile
from components.common.scoring.panels import image_picture

MAX_SIDE_PX = 256
"""Longest side of a crop, pixels; the report shows crops at full resolution."""

SHOWN = 6
"""Number of crops in the record and the report."""

CONFUSIONS = 3
"""Number of confusions that a crop names."""

LEAST_SCORED = 0.25
"""Crops with a smaller share of scored pixels do not compete, 0..1: a few wrong pixels would be 100 %."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """A true class that was taken for another one."""

    truth: str
    predicted: str
    share: float  # of the scored pixels of the crop, percent


@dataclass(frozen=True, slots=True)
class WorstCrop:
    """Place and errors of a crop."""

    tile: str
    row: int  # first row in the tile, pixels
    column: int  # first column in the tile, pixels
    side_px: int  # the crop is square, or the whole tile if that is smaller
    error: float  # wrong share of the scored pixels, percent
    confusions: tuple[Confusion, ...]  # the largest ones, in order


@dataclass(frozen=True, slots=True)
class Crop:
    """A crop with its pixels, all copied at full resolution."""

    found: WorstCrop
    image_hw3: npt.NDArray[np.uint8]  # first three bands
    dsm_hw: npt.NDArray[np.float32]  # scaled heights as in the store; NaN: not measured
    label_hw: npt.NDArray[np.uint8]  # full ground truth; 255: ignored
    predicted_hw: npt.NDArray[np.uint8]


def worst_crops(
    name: str, tile: Tile, classes_HW: npt.NDArray[np.uint8], classes: Sequence[str], side_px: int, count: int = SHOWN
) -> list[Crop]:
    """The crops of one tile with the highest share of wrong pixels.

    Crops lie on a grid without overlap; the last row and column are moved inwards, so that they are complete.

    Args:
        name: id of the tile.
        tile: the layers of the tile.
        classes_HW: predicted classes.
        classes: K names in label order.
        side_px: side of a crop, pixels, >= 1.
        count: maximum number of crops.

    Returns:
        Crops without overlap, the worst first; fewer than `count` if the others have no wrong pixel.
    """
    ranked = sorted(_errors(tile.eroded_HW, classes_HW, side_px), key=lambda found: (-found[0], found[1:]))
    chosen: list[tuple[float, int, int]] = []
    for error, row, column in ranked:
        if all(abs(row - r) >= side_px or abs(column - c) >= side_px for _, r, c in chosen):
            chosen.append((error, row, column))
        if len(chosen) == count:
            break
    return [
        _crop(WorstCrop(name, row, column, side_px, error, ()), tile, classes_HW, classes)
        for error, row, column in chosen
    ]


def worst_of(per_tile: Iterable[Sequence[Crop]], count: int = SHOWN) -> list[Crop]:
    """The worst crops of all tiles, the worst first."""
    crops = [crop for crops in per_tile for crop in crops]
    return sorted(crops, key=lambda c: (-c.found.error, c.found.tile, c.found.row, c.found.column))[:count]


def _errors(
    truth_HW: npt.NDArray[np.uint8], classes_HW: npt.NDArray[np.uint8], side_px: int
) -> Iterator[tuple[float, int, int]]:
    """Wrong share in percent, row and column of every crop that competes and has a wrong pixel."""
    height, width = truth_HW.shape
    for row in _starts(height, side_px):
        for column in _starts(width, side_px):
            inside = np.s_[row : row + side_px, column : column + side_px]
            truth_hw = truth_HW[inside]
            scored = int((truth_hw != IGNORE).sum())
            wrong = int(((truth_hw != IGNORE) & (truth_hw != classes_HW[inside])).sum())
            if wrong and scored >= LEAST_SCORED * truth_hw.size:
                yield 100 * wrong / scored, row, column


def _starts(length: int, side_px: int) -> list[int]:
    """First pixels of the crops along one side."""
    return sorted({min(start, max(0, length - side_px)) for start in range(0, length, side_px)})


def _crop(found: WorstCrop, tile: Tile, classes_HW: npt.NDArray[np.uint8], classes: Sequence[str]) -> Crop:
    inside = np.s_[found.row : found.row + found.side_px, found.column : found.column + found.side_px]
    confusions = _confusions(tile.eroded_HW[inside], classes_HW[inside], classes)
    return Crop(
        WorstCrop(found.tile, found.row, found.column, found.side_px, found.error, confusions),
        image_picture(tile.image_HWC[inside]).copy(),
        tile.dsm_HW[inside].copy(),
        tile.label_HW[inside].copy(),
        classes_HW[inside].copy(),
    )


def _confusions(
    truth_hw: npt.NDArray[np.uint8], predicted_hw: npt.NDArray[np.uint8], classes: Sequence[str]
) -> tuple[Confusion, ...]:
    k, scored = len(classes), truth_hw != IGNORE
    pairs = truth_hw[scored].astype(np.int64) * k + predicted_hw[scored]
    counts = np.bincount(pairs, minlength=k * k)
    counts[:: k + 1] = 0  # the correct ones
    largest = np.argsort(-counts, kind="stable")[:CONFUSIONS]
    return tuple(
        Confusion(classes[pair // k], classes[pair % k], 100 * float(counts[pair]) / len(pairs))
        for pair in largest
        if counts[pair]
    )
