"""How far two histograms are apart: population stability index (PSI) and Kolmogorov-Smirnov (KS) distance.

Letters: ... any leading axes, B bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LEAST_SHARE = 1e-4
"""A bin counts with at least this share, because the index of an empty bin would be infinite."""

Shares = npt.NDArray[np.float64]


def shares(counts_B: npt.NDArray[Any]) -> Shares:
    """Shares of the bins, `[..., B]`; NaN if all bins are empty."""
    counts = counts_B.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(counts / counts.sum(-1, keepdims=True))


def psi(expected_B: Shares, found_B: Shares) -> Shares:
    """Population stability index, `[...]`: 0 for equal shares; more than about 0.25 usually counts as a shift."""
    expected, found = (np.maximum(values, LEAST_SHARE) for values in (expected_B, found_B))
    return np.asarray(((found - expected) * np.log(found / expected)).sum(-1))


def ks(expected_B: Shares, found_B: Shares) -> Shares:
    """Largest difference of the cumulated shares, `[...]`, 0..1; the order of the bins matters."""
    return np.asarray(np.abs(np.cumsum(found_B, -1) - np.cumsum(expected_B, -1)).max(-1))
