"""Seam metrics of a map: whether its classes change more often at the edges of windows than elsewhere.

In: the class map, in bands of rows, and the lattice of windows. Out: two rates, and the agreement of windows that
overlap. Without seams, classes change as often on lattice lines as elsewhere, and windows mostly agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from components.predict.outputs.map_facts import PREFIX
from components.predict.outputs.map_layers import NODATA, Pixels
from components.predict.outputs.parts import Region
from components.predict.outputs.working import Tally

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Seams:
    """Shares, 0..1; None: there is nothing to compare."""

    agreement: float | None  # of the pairs of windows over a pixel, those that give it the same class
    on_lines: float | None  # of neighbouring pixels on both sides of the edge of a window, those of different classes
    elsewhere: float | None  # the same of all other neighbours

    def tags(self) -> dict[str, str]:
        """Tags of the files of a map."""
        figures = {
            "AGREEMENT": self.agreement,
            "CHANGES_ON_LINES": self.on_lines,
            "CHANGES_ELSEWHERE": self.elsewhere,
        }
        return {PREFIX + name: f"{value:.6f}" for name, value in figures.items() if value is not None}


def measure(
    bands: Iterable[tuple[slice, Pixels]],
    region: Region,
    raster_hw: tuple[int, int],
    window: tuple[int, int],
    counts: Tally,
) -> Seams:
    """Measure the seams of a class map.

    Args:
        bands: rows of the raster and their classes `[h, w]`, from top to bottom.
        region: that the map covers.
        raster_hw: height and width of the raster, pixels.
        window: side and stride of the windows, pixels.
        counts: of the map.
    """
    lines = [_lines(size, *window) for size in raster_hw]
    columns = lines[1][region.columns]
    changes, pairs = np.zeros(2, np.int64), np.zeros(2, np.int64)  # elsewhere, on lines
    last: Pixels | None = None
    for rows, classes_hw in bands:
        _count(classes_hw[:, :-1], classes_hw[:, 1:], columns[None, 1:], changes, pairs)
        upper = classes_hw[:-1] if last is None else np.concatenate([last, classes_hw[:-1]])
        lower = classes_hw[len(classes_hw) - len(upper) :]
        _count(upper, lower, lines[0][rows.stop - len(upper) : rows.stop, None], changes, pairs)
        last = classes_hw[-1:]
    elsewhere, on_lines = (int(n) / int(of) if of else None for n, of in zip(changes, pairs, strict=True))
    return Seams(counts.agreeing / counts.pairs if counts.pairs else None, on_lines, elsewhere)


def _lines(size_px: int, window_px: int, stride_px: int) -> Flags:
    """Whether a window starts or ends between a pixel and the one before it, `[size]`."""
    windows = max(0, ceil((size_px - window_px) / stride_px)) + 1
    starts = np.arange(windows) * stride_px
    places = np.concatenate([starts, starts + window_px])
    flags = np.zeros(size_px, bool)
    flags[places[(places > 0) & (places < size_px)]] = True
    return flags


def _count(
    one: Pixels, other: Pixels, on_line: Flags, changes: npt.NDArray[np.int64], pairs: npt.NDArray[np.int64]
) -> None:
    """Add pairs of neighbours with a class, and those of different classes: elsewhere [0] and on lines [1]."""
    valid = (one != NODATA) & (other != NODATA)
    changed = valid & (one != other)
    for total, flags in ((pairs, valid), (changes, changed)):
        on = np.count_nonzero(flags & on_line)
        total += np.count_nonzero(flags) - on, on
