"""components/common/uncertainty/temperature.py: known temperatures are found."""

import numpy as np
import pytest

from components.common.uncertainty.temperature import LIMITS, best_temperature


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_drew_the_classes_is_found(temperature):
    rng = np.random.default_rng(0)
    logits_NK = rng.normal(0, 2, (100_000, 5))
    truth_N = (logits_NK / temperature + rng.gumbel(size=logits_NK.shape)).argmax(axis=1)
    assert best_temperature(logits_NK.astype(np.float32), truth_N) == pytest.approx(temperature, rel=0.02)


def test_it_is_where_the_loss_is_lowest_on_a_grid():
    rng = np.random.default_rng(1)
    logits_NK, truth_N = 4 * rng.standard_normal((100, 3)), rng.integers(0, 3, 100)
    grid = np.geomspace(*LIMITS, 300)
    loss = [
        -np.mean([row[k] / t - np.log(np.exp(row / t).sum()) for row, k in zip(logits_NK, truth_N, strict=True)])
        for t in grid
    ]
    assert best_temperature(logits_NK, truth_N) == pytest.approx(grid[int(np.argmin(loss))], rel=0.02)


def test_a_network_without_errors_gets_the_lowest_temperature_and_huge_logits_do_not_overflow():
    logits_NK = np.eye(3)[[0, 1, 2, 0]] * 1e4
    assert LIMITS[0] <= best_temperature(logits_NK, np.array([0, 1, 2, 0])) <= LIMITS[1]
    assert best_temperature(np.eye(3), np.arange(3)) == pytest.approx(LIMITS[0], rel=0.01)
    assert best_temperature(np.eye(3) * 60, np.arange(3)) == 1.0  # the loss is flat
