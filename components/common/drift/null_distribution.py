"""How large distances are without drift: draw a second reference and a production from the windows of validation.

Areas are drawn first, then windows of each area, because windows of an area resemble one another more than windows of
other areas. A bootstrap over A areas underestimates the variance by the factor (A - 1) / A; drawing fewer areas by the
same factor corrects this. With one area, the difference between areas is unknown.
Letters: D draws, N windows of the reference, n windows of production, B coarse bins, S distances.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from components.common.drift.distances import Shares, ks, psi, shares
from components.common.drift.reference_windows import Reference

DRAWS = 4000
"""Number of draws; the level of an alarm is a share of them."""

Histogram = Mapping[str, npt.NDArray[Any]]
"""Name of a quantity -> pixels `[..., B]`."""

Measure = tuple[str, str]
"""Name of a quantity, and `psi` or `ks`."""


def distances(reference: Reference, expected: Histogram, found: Histogram) -> dict[Measure, Shares]:
    """All distances between two groups of histograms.

    Args:
        reference: tells which quantities are ordered; KS needs an order.
        expected: what is usual.
        found: what is compared with it.

    Returns:
        Quantity and measure -> distances `[...]`; NaN where nothing was counted.
    """
    result: dict[Measure, Shares] = {}
    for name, histograms in reference.histograms.items():
        pair = shares(expected[name]), shares(found[name])
        result[name, "psi"] = psi(*pair)
        if histograms.quantity.ordered:
            result[name, "ks"] = ks(*pair)
    return result


def limits(reference: Reference, windows: int, areas: int, level: float, seed: int) -> dict[Measure, float]:
    """Limit of every distance, so that without drift any of them is exceeded with the probability `level`.

    Args:
        reference: windows of validation.
        windows: number of windows of production.
        areas: number of areas that these windows lie in.
        level: probability of a false alarm, of all distances together.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    known = len(set(reference.areas))
    again = _weights(reference, len(reference.areas), known - 1, rng)
    drawn = _weights(reference, windows, round(areas * (known - 1) / known), rng)
    expected, found = (
        {name: weights_DN @ one.counts_NB for name, one in reference.histograms.items()}
        for weights_DN in (again, drawn)
    )
    null = distances(reference, expected, found)
    values_SD = np.nan_to_num(np.stack(list(null.values())))
    sorted_SD = np.sort(values_SD)
    ranks_SD = np.stack([np.searchsorted(*pair) for pair in zip(sorted_SD, values_SD, strict=True)])
    rank = int(np.quantile(ranks_SD.max(0), 1 - level, method="higher"))  # one rank for all distances
    return dict(zip(null, sorted_SD[:, rank].tolist(), strict=True))


def _weights(reference: Reference, windows: int, areas: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """How often each draw has each window of the reference, `[D, N]`: a number of windows from a number of areas."""
    _, firsts, counts = np.unique(reference.areas, return_index=True, return_counts=True)
    chosen = rng.integers(len(firsts), size=(DRAWS, max(1, areas)))
    area_Dn = chosen[:, np.arange(windows) % chosen.shape[1]]
    window_Dn = firsts[area_Dn] + (rng.random((DRAWS, windows)) * counts[area_Dn]).astype(np.intp)
    weights_DN = np.zeros((DRAWS, len(reference.areas)))
    np.add.at(weights_DN, (np.arange(DRAWS)[:, None], window_Dn), 1)
    return weights_DN
