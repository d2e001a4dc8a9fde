"""Connected areas of a class map, found block by block: pixels of one class that touch at their sides.

In: classes, block by block. Out: the borders between areas as straight lines, and per area its class and the sums that
its attributes need. Areas are numbered by their first pixel, row by row, whatever the block size. Number 0 is nodata
and everything outside of the raster.
Letters: h w rows and columns of a block, n areas, m borders, p pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse import csgraph

NODATA = 255
"""Class value of pixels without a class, and value of a layer in percent where there is none."""

HEIGHT_STEP_M = 0.1
"""Heights are counted in steps of this size, so medians are exact to half of it."""

Numbers = npt.NDArray[np.int64]

G = TypeVar("G", bound=np.generic)


@dataclass(frozen=True, slots=True)
class MapBlock:
    """Pixels of a part of a class map."""

    rows: slice
    columns: slice
    classes_hw: npt.NDArray[np.uint8]
    percent_hw: npt.NDArray[np.uint8] | None  # confidence; None: unknown
    metres_hw: npt.NDArray[np.float32] | None  # heights, NaN = not measured; None: unknown


@dataclass(frozen=True, slots=True)
class Borders:
    """Straight lines between two areas, [m] each; a line is as long as the same two areas lie on its sides."""

    x: npt.NDArray[np.int32]  # left or upper end, pixels from the raster's origin
    y: npt.NDArray[np.int32]
    length: npt.NDArray[np.int32]
    vertical: npt.NDArray[np.bool_]
    before: npt.NDArray[np.int32]  # area above or left of it
    after: npt.NDArray[np.int32]  # area below or right of it

    def where(self, chosen: npt.NDArray[np.bool_]) -> Borders:
        """Some of the borders; chosen is `[m]`."""
        return Borders(*(getattr(self, one.name)[chosen] for one in fields(self)))

    def of(self, area: Numbers) -> Borders:
        """The borders that remain if every area becomes area `[n]`."""
        number = area.astype(np.int32)
        moved = replace(self, before=number[self.before], after=number[self.after])
        return moved.where(moved.before != moved.after)


class Sums(NamedTuple):
    """Sums over the pixels of every area, [n] each: whole numbers, so their order does not matter."""

    pixels: Numbers
    x: Numbers  # columns
    y: Numbers  # rows
    percent: Numbers  # confidence
    rated: Numbers  # pixels with a confidence

    def of(self, area: Numbers, count: int) -> Sums:
        """The sums if every area becomes area `[n]`, a number below count."""
        return Sums(*(np.bincount(area, one, count).astype(np.int64) for one in self))


@dataclass(frozen=True, slots=True)
class Areas:
    """The connected areas of a class map; index 0 is nodata."""

    classes: npt.NDArray[np.uint8]  # [n]
    sums: Sums
    heights: Numbers  # [k, 3]: area, height in steps, pixels
    borders: Borders


class Connecting:
    """Connects areas over blocks that arrive row by row, from left to right."""

    def __init__(self, height_px: int, width_px: int) -> None:
        self._size = height_px, width_px
        self._above_ids = np.zeros(width_px, np.int32)
        self._above_classes = np.full(width_px, NODATA, np.uint8)
        self._left_ids = np.zeros(0, np.int32)
        self._left_classes = np.zeros(0, np.uint8)
        self._count = 1
        self._classes = [np.array([NODATA], np.uint8)]
        self._sums = [Sums(*np.zeros((len(Sums._fields), 1), np.int64))]
        self._heights = [np.zeros((0, 3), np.int64)]
        self._borders: list[Borders] = []
        self._pairs = [np.zeros((0, 2), np.int64)]

    def add(self, block: MapBlock) -> None:
        """Number the areas of a block, and remember where they continue in blocks above and to the left."""
        classes = block.classes_hw
        ids, own = _labelled(classes)
        ids[ids > 0] += self._count - 1
        if block.columns.start == 0:
            self._left_ids, self._left_classes = np.zeros(len(ids), np.int32), np.full(len(ids), NODATA, np.uint8)
        ends = block.rows.stop == self._size[0], block.columns.stop == self._size[1]
        all_ids = _bordered(ids, self._above_ids[block.columns], self._left_ids, 0, ends)
        all_classes = _bordered(classes, self._above_classes[block.columns], self._left_classes, NODATA, ends)
        self._borders += _borders(all_ids, all_classes, block.rows.start, block.columns.start)
        self._pairs += _continued(all_ids, all_classes)
        self._sums.append(_sums(block, ids - (self._count - 1), len(own)))
        self._heights.append(_heights(block, ids))
        self._classes.append(own)
        self._count += len(own)
        self._above_ids[block.columns], self._above_classes[block.columns] = ids[-1], classes[-1]
        self._left_ids, self._left_classes = ids[:, -1].copy(), classes[:, -1].copy()

    def areas(self) -> Areas:
        """The areas, when all blocks were added."""
        borders = Borders(*(np.concatenate([getattr(b, f.name) for b in self._borders]) for f in fields(Borders)))
        root = joined(np.concatenate(self._pairs), self._count)
        first = np.full(self._count, np.iinfo(np.int64).max)
        start = borders.y.astype(np.int64) * (self._size[1] + 1) + borders.x
        for side in (borders.before, borders.after):
            np.minimum.at(first, root[side], start)
        first[root[0]] = -1
        order = np.argsort(first[: root.max() + 1], kind="stable")
        area = np.argsort(order)[root]
        classes = np.empty(len(order), np.uint8)
        classes[area] = np.concatenate(self._classes)
        sums = Sums(*(np.concatenate(parts) for parts in zip(*self._sums, strict=True)))
        heights = counted(np.concatenate(self._heights), area)
        return Areas(classes, sums.of(area, len(order)), heights, borders.of(area))


def joined(pairs: Numbers, count: int) -> Numbers:
    """Numbers [n] of groups: elements of a pair `[p, 2]` are in one group."""
    graph = sparse.coo_array((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return csgraph.connected_components(graph, directed=False)[1].astype(np.int64)


def counted(heights: Numbers, area: Numbers) -> Numbers:
    """Counts of heights `[k, 3]` if every area becomes area `[n]`, sorted by area and height."""
    steps, numbers = heights[:, 1], area[heights[:, 0]]
    order = np.lexsort((steps, numbers))
    rows = np.stack([numbers, steps, heights[:, 2]], axis=1)[order]
    starts = np.flatnonzero(np.any(np.diff(rows[:, :2], axis=0, prepend=-(2**62)) != 0, axis=1))
    rows[starts, 2] = np.add.reduceat(rows[:, 2], starts) if len(starts) else rows[starts, 2]
    return rows[starts]


def medians_m(heights: Numbers, count: int) -> npt.NDArray[np.float64]:
    """Median height [n] of every area, metres, from sorted counts `[k, 3]`; NaN without a measured height."""
    pixels = np.bincount(heights[:, 0], heights[:, 2], count).astype(np.int64)
    until = np.cumsum(heights[:, 2])
    start = np.cumsum(pixels) - pixels
    measured = pixels > 0
    middle = [start + (pixels - 1) // 2, start + pixels // 2]
    low, high = (heights[np.searchsorted(until, m[measured], side="right"), 1] for m in middle)
    found = np.full(count, np.nan)
    found[measured] = np.round((low + high) / 2 * HEIGHT_STEP_M, 2)
    return found


def _labelled(classes_hw: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Numbers of the areas in a block, from 1, and their classes."""
    ids, own = np.zeros(classes_hw.shape, np.int32), np.zeros(0, np.uint8)
    for value in np.flatnonzero(np.bincount(classes_hw.ravel(), minlength=NODATA)[:NODATA]):
        inside = classes_hw == value
        found, count = ndimage.label(inside)
        ids[inside] = found[inside] + len(own)
        own = np.append(own, np.full(count, value, np.uint8))
    return ids, own


def _bordered(
    block: npt.NDArray[G], above: npt.NDArray[G], left: npt.NDArray[G], outside: int, ends: tuple[bool, bool]
) -> npt.NDArray[G]:
    """A block with the last row of the block above it, the last column of the one to its left, and the raster's end."""
    padded = np.pad(block, [(1, end) for end in ends], constant_values=outside)
    padded[0, 1 : block.shape[1] + 1], padded[1 : block.shape[0] + 1, 0] = above, left
    return padded


def _borders(ids: npt.NDArray[np.int32], classes: npt.NDArray[np.uint8], top: int, left: int) -> Iterator[Borders]:
    for vertical in (False, True):
        if vertical:
            ids, classes = ids.T, classes.T
        before, after = ids[:-1, 1:], ids[1:, 1:]
        edge = classes[:-1, 1:] != classes[1:, 1:]
        goes_on = edge[:, 1:] & edge[:, :-1] & (before[:, 1:] == before[:, :-1]) & (after[:, 1:] == after[:, :-1])
        starts, ends = edge.copy(), edge.copy()
        starts[:, 1:] &= ~goes_on
        ends[:, :-1] &= ~goes_on
        line, start = np.nonzero(starts)
        length = np.nonzero(ends)[1] - start + 1
        x, y = (line, start) if vertical else (start, line)
        yield Borders(
            (x + left).astype(np.int32),
            (y + top).astype(np.int32),
            length.astype(np.int32),
            np.full(len(x), vertical),
            before[line, start],
            after[line, start],
        )


def _continued(ids: npt.NDArray[np.int32], classes: npt.NDArray[np.uint8]) -> Iterator[Numbers]:
    """Pairs of numbers of one area, on both sides of the upper and of the left edge of a block."""
    for side, own in ((np.s_[0, 1:], np.s_[1, 1:]), (np.s_[1:, 0], np.s_[1:, 1])):
        same = (classes[side] == classes[own]) & (classes[own] != NODATA)
        yield np.unique(np.stack([ids[side][same], ids[own][same]], axis=1), axis=0).astype(np.int64)


def _sums(block: MapBlock, ids_hw: npt.NDArray[np.int32], count: int) -> Sums:
    ids = np.maximum(ids_hw, 0)

    def total(weights: npt.NDArray[np.generic] | None = None) -> Numbers:
        flat = None if weights is None else np.broadcast_to(weights, ids.shape).ravel()
        return np.bincount(ids.ravel(), flat, count + 1)[1:].astype(np.int64)

    x, y = np.arange(block.columns.start, block.columns.stop), np.arange(block.rows.start, block.rows.stop)[:, None]
    percent = np.full(ids.shape, NODATA, np.uint8) if block.percent_hw is None else block.percent_hw
    rated = percent != NODATA
    return Sums(total(), total(x), total(y), total(np.where(rated, percent, 0)), total(rated))


def _heights(block: MapBlock, ids_hw: npt.NDArray[np.int32]) -> Numbers:
    """Counts of heights [k, 3] of a block."""
    if block.metres_hw is None:
        return np.zeros((0, 3), np.int64)
    known = np.isfinite(block.metres_hw) & (ids_hw > 0)
    steps = np.round(block.metres_hw[known].astype(np.float64) / HEIGHT_STEP_M).astype(np.int64)
    low = steps.min(initial=0)
    span = int(steps.max(initial=0) - low + 1)
    keys, pixels = np.unique(ids_hw[known].astype(np.int64) * span + steps - low, return_counts=True)
    return np.stack([keys // span, keys % span + low, pixels], axis=1)
