from __future__ import annotations

import numpy as np
import pytest

from components.acquire.sample.noise import field


def roughness(wave: np.ndarray, axis: int) -> float:
    return float(np.abs(np.diff(wave, axis=axis)).mean())


def test_a_field_has_mean_0_and_deviation_1_and_closes_around_its_edges() -> None:
    wave = field(np.random.default_rng(1), 0.5, 12.0)
    assert (wave.mean(), wave.std()) == pytest.approx((0, 1), abs=1e-4)
    assert np.abs(wave[0] - wave[-1]).mean() < 1.5 * roughness(wave, 0)


def test_a_coarse_field_is_smoother_than_a_fine_one() -> None:
    fine, coarse = (field(np.random.default_rng(1), finest, 12.0) for finest in (0.05, 1.0))
    assert roughness(coarse, 0) < 0.5 * roughness(fine, 0)


def test_stretching_makes_it_smoother_along_the_columns() -> None:
    wave = field(np.random.default_rng(1), 0.1, 20.0, stretch=8.0)
    assert roughness(wave, 1) < 0.4 * roughness(wave, 0)
