"""Bootstrap over blocks: how much a figure would change if other ground of the same kind had been scored.

In: counts of every block, and figures as functions of their sums. Out: an interval per figure. Resamples contain
complete blocks, because neighbouring pixels resemble each other and would make an interval too narrow. Neighbouring
blocks also resemble each other a little, so they are worth fewer independent blocks, and a resample draws only that
many. Letters: N blocks, S resamples, V counts of a block. Needs only NumPy and SciPy.
Source: Hesterberg, What Teachers Should Know About the Bootstrap, American Statistician 2015 (t quantiles).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

Array = npt.NDArray[np.float64]

Figures = Callable[[Array], Mapping[str, Array]]
"""Sums of counts `[..., V]` -> name -> values `[...]`; a value that is not defined is NaN."""

Interval = tuple[float, float]

SEED = 1503
"""Of the resamples, so that the same counts always give the same intervals."""

PART = 4_000_000
"""Most numbers of resampled blocks in memory at a time."""

FEWEST = 8
"""Least number of blocks that a figure needs for an interval; with fewer, the resamples are too much alike."""

DEFINED = 0.5
"""Share of the resamples that must define a figure; with less, the figure has no interval."""


@dataclass(frozen=True, slots=True)
class Support:
    """The blocks that a figure depends on."""

    blocks: int
    independent: float  # number of independent blocks that they are worth, see `independent_blocks`


def block_intervals(
    counts_NV: Array, figures: Figures, support: Mapping[str, Support], drawn: int, *, level: float, samples: int
) -> dict[str, Interval | None]:
    """Intervals of figures, from the counts of blocks.

    All figures see the same resamples, so a figure may be the difference of two others.

    Args:
        counts_NV: counts of every block.
        figures: computes the figures from sums of counts.
        support: name -> the blocks of that figure; other blocks, whose counts for it are 0, may be among the N.
        drawn: number of blocks of a resample.
        level: probability that an interval contains the true value, 0..1.
        samples: number of resamples.

    Returns:
        Name -> (low, high); None: the figure is not defined, or it has fewer than `FEWEST` blocks.
    """
    values = figures(counts_NV.sum(axis=0))
    known = [name for name, value in values.items() if support[name].blocks >= FEWEST and not np.isnan(value)]
    found: dict[str, Interval | None] = dict.fromkeys(values)
    if known:
        parts = [figures(sums_sV) for sums_sV in resampled(counts_NV, drawn, samples)]
        for name in known:
            tail = _tail(support[name].independent, level)
            found[name] = _percentiles(np.concatenate([part[name] for part in parts]), tail)
    return found


def _tail(independent: float, level: float) -> float:
    """Share of the resamples beyond each end: less than with the normal quantile, for few blocks."""
    return float(ndtr(stdtrit(independent - 1, (1 - level) / 2)))


def resampled(counts_NV: Array, drawn: int, samples: int) -> Iterator[Array]:
    """Sums over `drawn` blocks, drawn with replacement; yields all `samples` resamples in parts `[s, V]`."""
    blocks = len(counts_NV)
    rng = np.random.default_rng(SEED)
    at_once = max(1, PART // blocks)
    for first in range(0, samples, at_once):
        s = min(at_once, samples - first)
        chosen = rng.integers(blocks, size=(s, drawn)) + blocks * np.arange(s)[:, None]
        times_sN = np.bincount(chosen.ravel(), minlength=s * blocks).reshape(s, blocks)
        yield times_sN.astype(np.float64) @ counts_NV


def _percentiles(drawn_S: Array, tail: float) -> Interval | None:
    drawn = drawn_S[~np.isnan(drawn_S)]
    if len(drawn) < DEFINED * len(drawn_S):
        return None
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return float(low), float(high)


def independent_blocks(influence_NV: Array, grids: Sequence[tuple[int, int]], known_N: npt.NDArray[np.bool_]) -> float:
    """How many independent blocks N blocks are worth, 3..N: the fewer, the more a block resembles its neighbours.

    The eight neighbours of a block count. One covariance is too noisy for a few dozen blocks, so the mean over all
    influences is taken; it only ever reduces the number.

    Args:
        influence_NV: how much every block adds to the error of each figure; every column sums to 0.
        grids: rows and columns of blocks of every tile; blocks are numbered row by row, tile after tile.
        known_N: blocks with labelled pixels; only these count.
    """
    blocks = int(known_N.sum())
    if blocks < 3:
        return blocks
    square_V = (influence_NV**2).sum(axis=0)
    unit_NV = influence_NV[:, square_V > 0] / np.sqrt(square_V[square_V > 0])
    if not unit_NV.shape[1]:
        return blocks
    pairs_2P = _neighbours(grids)
    one, other = pairs_2P[:, known_N[pairs_2P].all(axis=0)]
    together_V = (unit_NV[one] * unit_NV[other]).sum(axis=0)
    by_chance = -len(one) / (blocks * (blocks - 1))  # columns sum to 0, which makes independent blocks differ
    growth = 1 + 2 * float(together_V.mean() - by_chance)  # of the variance of a sum over the blocks
    return max(3.0, blocks / max(1.0, growth))


def _neighbours(grids: Sequence[tuple[int, int]]) -> npt.NDArray[np.intp]:
    """Pairs of blocks of a tile that share an edge or a corner, `[2, P]`."""
    pairs, first = [np.empty((2, 0), np.intp)], 0
    for rows, columns in grids:
        number = first + np.arange(rows * columns).reshape(rows, columns)
        first += rows * columns
        for one, other in (
            (number[:, :-1], number[:, 1:]),
            (number[:-1], number[1:]),
            (number[:-1, :-1], number[1:, 1:]),
            (number[:-1, 1:], number[1:, :-1]),
        ):
            pairs.append(np.stack([one.ravel(), other.ravel()]))
    return np.concatenate(pairs, axis=1)
