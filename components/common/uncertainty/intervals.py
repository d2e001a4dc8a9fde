"""Confidence intervals of the scores of all conditions, and of the differences between conditions.

In: confusion counts of the blocks of the test tiles. Out: an interval of every headline figure. Both conditions of a
difference see the same resamples of blocks, so differences are paired. How wide an interval is depends on the blocks
that its figure depends on: a condition may have few tiles, and a class may occur in few blocks.
Letters: N blocks, K classes; 3: correct, true, predicted pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.common.scoring.balance import expected_miou
from components.common.uncertainty.resampling import Array, Interval, Support, block_intervals, independent_blocks

DIFFERENCES = (("rgb+dsm", "rgb"), ("rgb+dsm", "dsm"), ("rgb", "dsm"))
"""Pairs of conditions whose mIoU is compared."""


@dataclass(frozen=True, slots=True)
class Difference:
    """mIoU of one condition minus that of another on the same pixels, percent points; None: not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals of the scores on the protocol's ground truth, percent points."""

    level: float  # probability that an interval contains the true value, 0..1
    block_px: int  # side of a block, pixels
    blocks: int  # blocks with labelled pixels, under any condition; a figure may depend on fewer
    independent: float  # independent blocks that these are worth; fewer, because neighbours resemble each other
    samples: int  # resamples
    figures: dict[str, Interval | None]  # miou/, oa/, mf1/CONDITION, iou/CONDITION/CLASS, expected_miou -> low, high
    differences: dict[str, Difference]  # `rgb+dsm - rgb` and so on


def intervals(
    blocks: Mapping[str, npt.NDArray[np.int64]],
    grids: Sequence[tuple[int, int]],
    classes: Sequence[str],
    in_means: Sequence[bool],
    failure_probability: float,
    *,
    level: float,
    samples: int,
    block_px: int,
) -> Intervals:
    """Bootstrap the figures.

    Args:
        blocks: condition -> `[N, K, K]` confusion counts; every condition numbers the blocks alike, and the counts of a
            block that it cannot score are 0.
        grids: rows and columns of blocks of every tile; blocks are numbered row by row, tile after tile.
        classes: K names in label order.
        in_means: which classes count in the means.
        failure_probability: p of the expected mIoU, 0 <= p < 1.
        level: probability that an interval contains the true value, 0..1.
        samples: number of resamples.
        block_px: side of a block, pixels; recorded.
    """
    sums = {name: _sums(counts_NKK) for name, counts_NKK in blocks.items()}
    worth = {name: _support(_known(sums_N3K), sums, grids) for name, sums_N3K in sums.items()}
    share = min((of.independent / of.blocks for of in worth.values() if of.blocks), default=1.0)
    known = int(np.any([_known(sums_N3K) for sums_N3K in sums.values()], axis=0).sum())
    parts = [_condition(name, sums_N3K, worth[name], classes, in_means) for name, sums_N3K in sums.items()]
    for one, other in DIFFERENCES:
        if one in sums and other in sums:
            parts.append(_difference_of(one, other, sums, grids, in_means))
    if len(sums) == 3:
        parts.append(_expected(sums, grids, in_means, failure_probability))
    values: dict[str, Array] = {}
    found: dict[str, Interval | None] = {}
    for flat in _Flat.of(parts):
        values |= flat.figures(flat.counts_NV.sum(axis=0))
        found |= block_intervals(flat.counts_NV, flat.figures, flat.support, flat.drawn, level=level, samples=samples)
    names = [f"{one} - {other}" for one, other in DIFFERENCES]
    differences = {name: _difference(values, found, name) for name in names if name in found}
    own = {name: bounds for name, bounds in found.items() if name not in differences}
    return Intervals(level, block_px, known, share * known, samples, own, differences)


@dataclass(frozen=True, slots=True)
class _Part:
    """Figures that depend on the same counts."""

    sums: tuple[Array, ...]  # `[N, 3, K]` each
    figures: Callable[[list[Array]], dict[str, Array]]  # sums `[..., 3, K]` -> name -> values `[...]`
    support: dict[str, Support]  # of every figure
    drawn: int  # blocks of a resample

    @property
    def known_N(self) -> npt.NDArray[np.bool_]:
        """The blocks to draw from."""
        return np.asarray(np.any([_known(sums_N3K) for sums_N3K in self.sums], axis=0))


def _condition(name: str, sums_N3K: Array, support: Support, classes: Sequence[str], in_means: Sequence[bool]) -> _Part:
    """The figures of one condition; a class depends only on the blocks in which it is true or predicted."""
    blocks_K = (_union(sums_N3K) > 0).sum(axis=0).tolist()
    share = support.independent / max(1, support.blocks)

    def figures(sums: list[Array]) -> dict[str, Array]:
        iou = _ratio(sums[0][..., 0, :], _union(sums[0]))
        means = {f"{figure}/{name}": values for figure, values in _figures(sums[0], in_means).items()}
        return means | {f"iou/{name}/{title}": iou[..., k] for k, title in enumerate(classes)}

    of_means = {f"{figure}/{name}": support for figure in ("miou", "oa", "mf1")}
    of_classes = {
        f"iou/{name}/{title}": Support(count, max(min(3.0, count), share * count))
        for title, count in zip(classes, blocks_K, strict=True)
    }
    return _Part((sums_N3K,), figures, of_means | of_classes, round(support.independent) - 1)


def _difference_of(
    one: str, other: str, sums: Mapping[str, Array], grids: Sequence[tuple[int, int]], in_means: Sequence[bool]
) -> _Part:
    """The difference of the mIoU of two conditions, on the blocks that both can score."""

    def figures(of_both: list[Array]) -> dict[str, Array]:
        first, second = (_figures(of_one, in_means)["miou"] for of_one in of_both)
        return {f"{one} - {other}": first - second}

    common, support = _common((one, other), sums, grids)
    return _Part(common, figures, {f"{one} - {other}": support}, round(support.independent) - 1)


def _expected(
    sums: Mapping[str, Array], grids: Sequence[tuple[int, int]], in_means: Sequence[bool], failure_probability: float
) -> _Part:
    """E(p), on the blocks that all conditions can score, as the balance figures are."""

    def figures(of_all: list[Array]) -> dict[str, Array]:
        v = [_figures(of_one, in_means)["miou"] for of_one in of_all]
        return {"expected_miou": expected_miou(v[0], v[1], v[2], failure_probability)}

    common, support = _common(("rgb+dsm", "rgb", "dsm"), sums, grids)
    return _Part(common, figures, {"expected_miou": support}, round(support.independent) - 1)


def _common(
    names: Sequence[str], sums: Mapping[str, Array], grids: Sequence[tuple[int, int]]
) -> tuple[tuple[Array, ...], Support]:
    """The counts of conditions in the blocks that all of them can score."""
    common_N = np.asarray(np.all([_known(sums[name]) for name in names], axis=0))
    return tuple(sums[name] * common_N[:, None, None] for name in names), _support(common_N, sums, grids)


@dataclass(frozen=True, slots=True)
class _Flat:
    """Parts that draw from the same blocks, with their counts as one matrix, so that one product sums all of them."""

    counts_NV: Array  # of the blocks to draw from
    parts: tuple[_Part, ...]
    classes: int

    @classmethod
    def of(cls, parts: Sequence[_Part]) -> list[_Flat]:
        """Group parts by their blocks and by how many of them a resample draws."""
        groups: dict[tuple[bytes, int], list[_Part]] = {}
        for part in parts:
            groups.setdefault((part.known_N.tobytes(), part.drawn), []).append(part)
        found = []
        for group in groups.values():
            columns = [sums_N3K.reshape(len(sums_N3K), -1) for part in group for sums_N3K in part.sums]
            counts_NV = np.concatenate(columns, axis=1)[group[0].known_N]
            found.append(cls(counts_NV, tuple(group), parts[0].sums[0].shape[2]))
        return found

    @property
    def drawn(self) -> int:
        return self.parts[0].drawn

    @property
    def support(self) -> dict[str, Support]:
        return {name: support for part in self.parts for name, support in part.support.items()}

    def figures(self, total: Array) -> dict[str, Array]:
        """Sums `[..., V]` -> all figures of the parts."""
        stacked = total.reshape(*total.shape[:-1], -1, 3, self.classes)
        sums = iter([stacked[..., i, :, :] for i in range(stacked.shape[-3])])
        found: dict[str, Array] = {}
        for part in self.parts:
            found |= part.figures([next(sums) for _ in part.sums])
        return found


def _support(known_N: npt.NDArray[np.bool_], sums: Mapping[str, Array], grids: Sequence[tuple[int, int]]) -> Support:
    """How many independent blocks some blocks are worth, judged by all conditions that can score them."""
    influence = [
        _influence(sums_N3K * known_N[:, None, None]) for sums_N3K in sums.values() if _known(sums_N3K)[known_N].all()
    ]
    return Support(int(known_N.sum()), independent_blocks(np.concatenate(influence, axis=1), grids, known_N))


def _sums(counts_NKK: npt.NDArray[np.int64]) -> Array:
    """Correct, true and predicted pixels per block and class, `[N, 3, K]`."""
    correct_NK = np.diagonal(counts_NKK, axis1=1, axis2=2)
    return np.stack([correct_NK, counts_NKK.sum(axis=2), counts_NKK.sum(axis=1)], axis=1).astype(np.float64)


def _known(sums_N3K: Array) -> npt.NDArray[np.bool_]:
    """Whether a block has labelled pixels."""
    known_N: npt.NDArray[np.bool_] = sums_N3K[:, 1].sum(axis=1) > 0
    return known_N


def _union(sums: Array) -> Array:
    """Pixels `[..., K]` that are of a class or predicted as it, from sums `[..., 3, K]`."""
    union: Array = sums[..., 1, :] + sums[..., 2, :] - sums[..., 0, :]
    return union


def _influence(sums_N3K: Array) -> Array:
    """How much every block adds to the error of each class's IoU, up to a factor, `[N, K]`."""
    union_NK = _union(sums_N3K)
    iou_K = _ratio(sums_N3K[:, 0].sum(axis=0), union_NK.sum(axis=0)) / 100
    return sums_N3K[:, 0] - np.nan_to_num(iou_K) * union_NK


def _figures(sums: Array, in_means: Sequence[bool]) -> dict[str, Array]:
    """The means of sums `[..., 3, K]`, percent points; NaN if not defined."""
    correct, true, predicted = (sums[..., i, :] for i in range(3))
    counted = np.asarray(in_means, bool)
    return {
        "miou": _mean(_ratio(correct, _union(sums))[..., counted]),
        "oa": _ratio(correct.sum(axis=-1), true.sum(axis=-1)),
        "mf1": _mean(_ratio(2 * correct, true + predicted)[..., counted]),
    }


def _ratio(part: Array, whole: Array) -> Array:
    """`100 * part / whole`; NaN where `whole` is 0."""
    return np.divide(100.0 * part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _mean(values: Array) -> Array:
    """Mean over the last axis of the values that are not NaN; NaN if there are none."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0).sum(axis=-1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def _difference(value: Mapping[str, Array], found: Mapping[str, Interval | None], name: str) -> Difference:
    low, high = found[name] or (None, None)
    return Difference(None if np.isnan(value[name]) else float(value[name]), low, high)
