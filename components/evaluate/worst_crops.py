"""The crops of the test tiles with the most errors, with their pixels and their three largest confusions.

In: a tile, its predicted class map. Out: crops, the worst first. Errors are counted on the protocol's ground truth.
Letters: H W size of the tile, h w size of a crop, pixels.
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

NAMED = 3
"""Number of confusions that a crop names."""

LEAST_SCORED = 0.25
"""Crops with a smaller share of scored pixels do not compete, 0..1: a few wrong pixels would be 100 %."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A true class that was taken for another one."""

    truth: str
    predicted: str
    share: float  # of the scored pixels of the crop, percent


@dataclass(frozen=True, slots=True)
class WorstCrop:
    """Place and errors of a crop, for the record."""

    tile: str
    condition: str
    row: int  # first row in the tile, pixels
    column: int  # first column in the tile, pixels
    side_px: int  # the crop is square, or the whole tile if that is smaller
    error: float  # wrong share of the scored pixels, percent
    confusions: tuple[Mistake, ...]  # the largest ones, in order


@dataclass(frozen=True, slots=True)
class Crop:
    """A crop with its pixels, all copied at full resolution."""

    tile: str
    condition: str
    row: int
    column: int
    side_px: int
    error: float
    confused: tuple[tuple[int, int, float], ...]  # true class, predicted class, percent of the scored pixels
    image_hw3: npt.NDArray[np.uint8] | None  # first three bands; None: the tile has no image
    dsm_hw: npt.NDArray[np.float32] | None  # scaled heights, NaN: not measured; None: the tile has no DSM
    label_hw: npt.NDArray[np.uint8]  # full ground truth; 255: ignored
    predicted_hw: npt.NDArray[np.uint8]

    def entry(self, classes: Sequence[str]) -> WorstCrop:
        """The crop as the record has it; `classes` are the names in label order."""
        named = tuple(Mistake(classes[truth], classes[predicted], share) for truth, predicted, share in self.confused)
        return WorstCrop(self.tile, self.condition, self.row, self.column, self.side_px, self.error, named)


def worst_crops(
    name: str, condition: str, tile: Tile, classes_HW: npt.NDArray[np.uint8], side_px: int, count: int = SHOWN
) -> tuple[Crop, ...]:
    """The crops of one tile with the highest share of wrong pixels.

    Crops lie on a grid without overlap; the last row and column are moved inwards, so that they are complete.

    Args:
        name: id of the tile.
        condition: condition of the prediction.
        tile: the layers of the tile.
        classes_HW: predicted classes.
        side_px: side of a crop, pixels, >= 1; at most `MAX_SIDE_PX` is used.
        count: maximum number of crops.

    Returns:
        Crops without overlap, the worst first; fewer than `count` if the others have no wrong pixel.
    """
    side_px = min(side_px, MAX_SIDE_PX)
    ranked = sorted(_errors(tile.eroded_HW, classes_HW, side_px), key=lambda found: (-found[0], found[1:]))
    chosen: list[tuple[float, int, int]] = []
    for error, row, column in ranked:
        if len(chosen) < count and all(abs(row - r) >= side_px or abs(column - c) >= side_px for _, r, c in chosen):
            chosen.append((error, row, column))
    return tuple(_crop(name, condition, tile, classes_HW, side_px, *place) for place in chosen)


def worst_of(per_tile: Iterable[Sequence[Crop]], count: int = SHOWN) -> tuple[Crop, ...]:
    """The worst crops of all tiles, the worst first.

    Tiles without one of the sensors compete only if no tile has both: one sensor has more errors than two.
    """
    crops = [crop for crops in per_tile for crop in crops]
    fused = [crop for crop in crops if "+" in crop.condition]
    return tuple(sorted(fused or crops, key=lambda c: (-c.error, c.tile, c.row, c.column))[:count])


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


def _crop(
    name: str,
    condition: str,
    tile: Tile,
    classes_HW: npt.NDArray[np.uint8],
    side_px: int,
    error: float,
    row: int,
    column: int,
) -> Crop:
    inside = np.s_[row : row + side_px, column : column + side_px]
    return Crop(
        name,
        condition,
        row,
        column,
        side_px,
        error,
        _confused(tile.eroded_HW[inside], classes_HW[inside]),
        image_picture(tile.image_HWC[inside]).copy() if "rgb" in tile.sensors else None,
        tile.dsm_HW[inside].copy() if "dsm" in tile.sensors else None,
        tile.label_HW[inside].copy(),
        classes_HW[inside].copy(),
    )


def _confused(
    truth_hw: npt.NDArray[np.uint8], predicted_hw: npt.NDArray[np.uint8]
) -> tuple[tuple[int, int, float], ...]:
    """The largest confusions: true class, predicted class, percent of the scored pixels."""
    scored = truth_hw != IGNORE
    pairs, counts = np.unique(truth_hw[scored].astype(np.int64) * 256 + predicted_hw[scored], return_counts=True)
    wrong = pairs // 256 != pairs % 256
    largest = np.argsort(-counts[wrong], kind="stable")[:NAMED]
    return tuple(
        (int(pair // 256), int(pair % 256), 100 * float(count) / int(scored.sum()))
        for pair, count in zip(pairs[wrong][largest], counts[wrong][largest], strict=True)
    )
