"""Calibration: how often a network is right where it is sure to a certain degree.

In: histograms of confidence, as `score_tile` counts them. Out: the expected calibration error and the bins of a
reliability plot, without and with the temperature. All shares are 0..1.
Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ConfidenceCounts = npt.NDArray[np.float64]
"""`[bins, 3]`: pixels, sum of their confidence, correct pixels. The bins divide the confidence 0..1 evenly."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Pixels of about the same confidence."""

    confidence: float | None  # mean; None: no pixel
    accuracy: float | None  # share of correct pixels; None: no pixel
    share: float  # of all pixels


@dataclass(frozen=True, slots=True)
class Reliability:
    """Calibration of one condition."""

    temperature: float | None  # logits are divided by it; None: the model has none for this condition
    ece_before: float | None  # expected calibration error without the temperature; None: no pixel
    ece: float | None  # the same with it
    bins: tuple[Bin, ...]  # with the temperature, from low to high confidence


def reliability(before: ConfidenceCounts, after: ConfidenceCounts, temperature: float | None) -> Reliability:
    """The calibration of one condition.

    Args:
        before: histogram `[bins, 3]` over all pixels without a temperature.
        after: the same, `[bins, 3]`, with the model's temperature; equal to `before` if it has none.
        temperature: the temperature.
    """
    pixels = after[:, 0].sum()
    bins = tuple(
        Bin(confidence / count, correct / count, count / pixels) if count else Bin(None, None, 0.0)
        for count, confidence, correct in after.tolist()
    )
    return Reliability(temperature, expected_error(before), expected_error(after), bins)


def expected_error(histogram: ConfidenceCounts) -> float | None:
    """Expected calibration error of a histogram `[bins, 3]`: mean of |accuracy - confidence|, 0..1; None: no pixel."""
    pixels = histogram[:, 0].sum()
    return float(np.abs(histogram[:, 2] - histogram[:, 1]).sum() / pixels) if pixels else None
