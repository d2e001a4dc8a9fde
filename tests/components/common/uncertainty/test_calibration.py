"""components/common/uncertainty/calibration.py: figures that a few pixels give by hand."""

import numpy as np
import pytest

from components.common.uncertainty.calibration import Bin, expected_error, reliability


def histogram(confidence, correct, bins=15):
    number = np.clip(np.ceil(np.asarray(confidence) * bins).astype(int) - 1, 0, bins - 1)
    return np.stack(
        [np.bincount(number, weights=w, minlength=bins) for w in (np.ones(len(number)), confidence, correct)], 1
    )


def test_the_error_is_the_mean_distance_of_accuracy_and_confidence():
    confidence, correct = [0.95] * 8 + [0.5] * 4, [1] * 6 + [0] * 2 + [1] * 2 + [0] * 2
    assert expected_error(histogram(confidence, correct)) == pytest.approx((8 * abs(0.75 - 0.95) + 0) / 12)
    assert expected_error(np.zeros((15, 3))) is None


def test_the_bins_are_those_with_the_temperature():
    before, after = histogram([0.9, 0.9], [1, 0]), histogram([0.5, 0.5], [1, 0])
    found = reliability(before, after, 2.5)
    assert (found.temperature, found.ece_before, found.ece) == (2.5, pytest.approx(0.4), 0.0)
    assert found.bins[7] == Bin(0.5, 0.5, 1.0) and found.bins[0] == Bin(None, None, 0.0)
