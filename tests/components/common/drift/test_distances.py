"""components/common/drift/distances.py"""

from __future__ import annotations

import numpy as np
import pytest

from components.common.drift.distances import ks, psi, shares

HALF, QUARTERS = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])


def test_equal_shares_are_no_distance():
    assert psi(HALF, HALF) == ks(HALF, HALF) == 0


def test_the_index_is_the_sum_over_bins_of_the_difference_times_the_log_ratio():
    found, expected = np.array([0.2, 0.8]), np.array([0.5, 0.5])
    assert psi(expected, found) == pytest.approx(-0.3 * np.log(0.4) + 0.3 * np.log(1.6))
    assert psi(expected, found) == pytest.approx(psi(found, expected))


def test_an_empty_bin_counts_with_a_ten_thousandth():
    assert psi(HALF, QUARTERS) == pytest.approx(0.5 * np.log(2) + 0.4999 * np.log(5000))


def test_ks_is_the_largest_difference_of_the_cumulated_shares():
    assert ks(HALF, QUARTERS) == pytest.approx(0.5)
    assert ks(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0.0, 1.0])) == pytest.approx([0.5, 1.0])


def test_shares_of_nothing_are_not_a_number():
    assert np.isnan(shares(np.zeros(3, int))).all()
    assert shares(np.array([[1, 3], [2, 2]])).tolist() == [[0.25, 0.75], [0.5, 0.5]]
