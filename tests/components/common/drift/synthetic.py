"""References and production without a network: windows whose histograms vary by area and by window."""

from __future__ import annotations

import numpy as np

from components.common.drift.quantities import Quantity
from components.common.drift.reference_windows import Histograms, Reference

QUANTITIES = {
    "classes": Quantity("Class shares", 4, ordered=False, labels=("a", "b", "c", "d")),
    "band": Quantity("Band", 8, ordered=True),
    "height": Quantity("Height", 8, ordered=True),
}


def city(rng, areas, each, spread=60.0, tilt=0.0):
    """Name -> counts of `areas * each` windows, `[N, b]`.

    Args:
        rng: random numbers.
        areas: number of areas.
        each: windows per area.
        spread: the lower, the more areas and windows differ.
        tilt: moves pixels of the band to higher bins; 0: no drift.
    """
    found = {}
    for name, quantity in QUANTITIES.items():
        weights = np.linspace(1, 2, quantity.bins)
        if name == "band":
            weights = weights * np.exp(tilt * np.linspace(-1, 1, quantity.bins))
        of_area = rng.dirichlet(spread * weights / weights.sum(), areas).repeat(each, 0)
        of_window = np.stack([rng.dirichlet(3 * spread * shares + 0.1) for shares in of_area])
        found[name] = np.round(10_000 * of_window).astype(np.int64)
    return found


def reference_of(counts, areas, each):
    """A reference of these windows, with a coarse bin per bin."""
    histograms = {
        name: Histograms(quantity, tuple(range(quantity.bins)), counts[name]) for name, quantity in QUANTITIES.items()
    }
    return Reference(32, 64, tuple(np.arange(areas).repeat(each).tolist()), histograms)
