"""Confidence intervals of the scores of all conditions, and of the differences between conditions.

In: confusion counts of the blocks of the test tiles. Out: an interval of every headline figure. All conditions see the
same resamples of blocks, so differences are paired. Letters: N blocks, K classes; 3: correct, true, predicted pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.common.scoring.balance import expected_miou
from components.common.uncertainty.resampling import Array, Interval, block_intervals, independent_blocks

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
    blocks: int  # blocks with labelled pixels
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
    known_N = np.stack([_known(sums_N3K) for sums_N3K in sums.values()]).max(axis=0)
    independent = independent_blocks(np.concatenate(list(map(_influence, sums.values())), axis=1), grids, known_N)
    of_pairs = {
        (one, other): _common(sums[one], sums[other]) for one, other in DIFFERENCES if one in sums and other in sums
    }
    flat = _Flat.of([*sums.values(), *itertools.chain.from_iterable(of_pairs.values())])
    names = list(sums)

    def figures(total: Array) -> dict[str, Array]:
        parts = flat.parts(total)
        found = [_figures(part, in_means) for part in parts[: len(names)]]
        named = {f"{figure}/{name}": of[figure] for name, of in zip(names, found, strict=True) for figure in of}
        for name, part in zip(names, parts, strict=False):
            iou = _ratio(part[..., 0, :], part[..., 1, :] + part[..., 2, :] - part[..., 0, :])
            named |= {f"iou/{name}/{classes[k]}": iou[..., k] for k in range(len(classes))}
        if len(names) == 3:
            v = [named[f"miou/{name}"] for name in ("rgb+dsm", "rgb", "dsm")]
            named["expected_miou"] = expected_miou(v[0], v[1], v[2], failure_probability)
        of_pair = iter(parts[len(names) :])
        for one, other in of_pairs:
            named[f"{one} - {other}"] = np.subtract(*(_figures(next(of_pair), in_means)["miou"] for _ in range(2)))
        return named

    value = figures(flat.counts_NV.sum(axis=0))
    found = block_intervals(flat.counts_NV[known_N], figures, independent, level=level, samples=samples)
    differences = {f"{one} - {other}": _difference(value, found, f"{one} - {other}") for one, other in of_pairs}
    own = {name: bounds for name, bounds in found.items() if name not in differences}
    return Intervals(level, block_px, int(known_N.sum()), independent, samples, own, differences)


@dataclass(frozen=True, slots=True)
class _Flat:
    """Counts of several conditions as one matrix, so that one product sums all of them."""

    counts_NV: Array
    classes: int

    @classmethod
    def of(cls, sums: Sequence[Array]) -> _Flat:
        return cls(np.concatenate([s.reshape(len(s), -1) for s in sums], axis=1), sums[0].shape[2])

    def parts(self, total: Array) -> list[Array]:
        """Sums `[..., V]` -> sums `[..., 3, K]` of each condition."""
        stacked = total.reshape(*total.shape[:-1], -1, 3, self.classes)
        return [stacked[..., i, :, :] for i in range(stacked.shape[-3])]


def _sums(counts_NKK: npt.NDArray[np.int64]) -> Array:
    """Correct, true and predicted pixels per block and class, `[N, 3, K]`."""
    correct_NK = np.diagonal(counts_NKK, axis1=1, axis2=2)
    return np.stack([correct_NK, counts_NKK.sum(axis=2), counts_NKK.sum(axis=1)], axis=1).astype(np.float64)


def _known(sums_N3K: Array) -> npt.NDArray[np.bool_]:
    """Whether a block has labelled pixels."""
    known_N: npt.NDArray[np.bool_] = sums_N3K[:, 1].sum(axis=1) > 0
    return known_N


def _common(one_N3K: Array, other_N3K: Array) -> tuple[Array, Array]:
    """The counts of two conditions in the blocks that both can score."""
    both_N11 = (_known(one_N3K) & _known(other_N3K))[:, None, None]
    return one_N3K * both_N11, other_N3K * both_N11


def _influence(sums_N3K: Array) -> Array:
    """How much every block adds to the error of each class's IoU, up to a factor, `[N, K]`."""
    union_NK = sums_N3K[:, 1] + sums_N3K[:, 2] - sums_N3K[:, 0]
    iou_K = _ratio(sums_N3K[:, 0].sum(axis=0), union_NK.sum(axis=0)) / 100
    return sums_N3K[:, 0] - np.nan_to_num(iou_K) * union_NK


def _figures(sums: Array, in_means: Sequence[bool]) -> dict[str, Array]:
    """The means of sums `[..., 3, K]`, percent points; NaN if not defined."""
    correct, true, predicted = (sums[..., i, :] for i in range(3))
    counted = np.asarray(in_means, bool)
    return {
        "miou": _mean(_ratio(correct, true + predicted - correct)[..., counted]),
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
