"""Small areas of a class map join a neighbour, so that the map has no area below a limit.

Smaller areas go first: in every round, each small area without a smaller neighbour joins the neighbour with which it
shares the longest border, and takes its class. Ties go to the larger, then to the upper neighbour. Rounds are repeated
until no small area has a neighbour. A small area that only nodata surrounds is dropped.
Letters: n areas, m borders, p pairs of neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.predict.areas.connected import Areas, Borders, Numbers, joined


@dataclass(frozen=True, slots=True)
class Merged:
    """What becomes of every area."""

    area: Numbers  # new number of every old area, [n]; 0 is nodata
    classes: npt.NDArray[np.uint8]  # of the new areas
    square_metres: npt.NDArray[np.float64]  # of the new areas
    joined: int  # areas that joined a neighbour
    dropped: int  # areas that became nodata


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """Pairs of areas with a common border, [p] each; every pair occurs in both orders."""

    one: Numbers
    other: Numbers
    across: Numbers  # length of the border, widths of a pixel
    down: Numbers  # heights of a pixel

    def of(self, area: Numbers) -> _Neighbours:
        """The pairs if every area becomes area `[n]`."""
        one, other = area[self.one], area[self.other]
        apart = one != other
        count = int(area.max()) + 1
        keys, pair = np.unique(one[apart] * count + other[apart], return_inverse=True)
        lengths = (np.bincount(pair, side[apart], len(keys)).astype(np.int64) for side in (self.across, self.down))
        return _Neighbours(keys // count, keys % count, *lengths)


def merged(
    areas: Areas, square_metres: npt.NDArray[np.float64], least_m2: float, pixel_m: tuple[float, float]
) -> Merged:
    """Join small areas with a neighbour.

    Args:
        areas: the areas of a map.
        square_metres: their sizes, `[n]`.
        least_m2: areas below this size are small.
        pixel_m: width and height of a pixel, metres.
    """
    area, classes, sizes = np.arange(len(areas.classes)), areas.classes, square_metres.copy()
    near = _neighbours(areas.borders).of(area)
    while True:
        small = sizes < least_m2
        small[0] = False
        chosen, target = _chosen(near, small, sizes, pixel_m)
        if not len(chosen):
            break
        classes = classes.copy()
        classes[chosen] = classes[target]
        moves = np.zeros(len(classes), np.bool_)
        moves[chosen] = True
        same = moves[near.one] & (classes[near.one] == classes[near.other]) & (near.other > 0)
        step = _by_first(joined(np.stack([near.one[same], near.other[same]], axis=1), len(classes)))
        kept = np.empty(step.max() + 1, np.uint8)
        kept[step] = classes
        area, classes, near = step[area], kept, near.of(step)
        sizes = np.bincount(step, sizes, len(kept)).astype(np.float64)
    lone = np.flatnonzero(small)
    remains = np.flatnonzero(~small)
    last = np.zeros(len(sizes), np.int64)
    last[remains] = np.arange(len(remains))
    return Merged(last[area], classes[remains], sizes[remains], len(areas.classes) - len(sizes), len(lone))


def _neighbours(borders: Borders) -> _Neighbours:
    one, other = borders.before.astype(np.int64), borders.after.astype(np.int64)
    across = np.where(borders.vertical, 0, borders.length).astype(np.int64)
    down = np.where(borders.vertical, borders.length, 0).astype(np.int64)
    both = np.concatenate([one, other]), np.concatenate([other, one])
    return _Neighbours(*both, np.tile(across, 2), np.tile(down, 2))


def _chosen(
    near: _Neighbours, small: npt.NDArray[np.bool_], sizes: npt.NDArray[np.float64], pixel_m: tuple[float, float]
) -> tuple[Numbers, Numbers]:
    """Small areas that join a neighbour in this round, and the neighbours."""
    place = np.argsort(np.lexsort((np.arange(len(sizes)), sizes)))
    real = small[near.one] & (near.other > 0)
    one, other = near.one[real], near.other[real]
    length = near.across[real] * pixel_m[0] + near.down[real] * pixel_m[1]
    waits = np.zeros(len(sizes), np.bool_)
    waits[one[small[other] & (place[other] < place[one])]] = True
    now = ~waits[one]
    one, other, length = one[now], other[now], length[now]
    order = np.lexsort((other, -sizes[other], -length, one))
    chosen, best = np.unique(one[order], return_index=True)
    return chosen, other[order][best]


def _by_first(group: Numbers) -> Numbers:
    """Groups [n] numbered by their first element."""
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]
