from __future__ import annotations

import pytest

from components.train.stopwatch import Stopwatch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_start_up_and_pauses_are_not_counted():
    clock = Clock()
    stopwatch = Stopwatch(clock)
    clock.now += 60  # compiling, and the first step
    stopwatch.step()
    assert stopwatch.lap() is None
    for _ in range(4):
        clock.now += 0.5
        stopwatch.step()
    with stopwatch.paused():
        clock.now += 30
    clock.now += 1.0
    stopwatch.step()
    assert stopwatch.lap() == pytest.approx(5 / 3)
    clock.now += 0.25
    stopwatch.step()
    assert stopwatch.lap() == pytest.approx(4)


def test_a_lap_without_a_step_or_without_time_has_no_speed():
    stopwatch = Stopwatch(Clock())
    assert stopwatch.lap() is None
    stopwatch.step()
    stopwatch.step()
    assert stopwatch.lap() is None
