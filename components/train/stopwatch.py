"""Measure how fast a training takes its steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Counts steps and their time. The first step, which includes the start-up, and pauses are not counted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Create a stopwatch that the first step starts; `clock` returns seconds."""
        self._clock, self._steps, self._since = clock, 0, 0.0
        self._started = False

    def step(self) -> None:
        """Count a step that has just ended."""
        if self._started:
            self._steps += 1
        else:
            self._started, self._since = True, self._clock()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time of the block."""
        begun = self._clock()
        yield
        self._since += self._clock() - begun

    def lap(self) -> float | None:
        """Steps per second since the last lap, and start the next one; None if no step was counted."""
        now = self._clock()
        speed = self._steps / (now - self._since) if self._steps and now > self._since else None
        self._steps, self._since = 0, now
        return speed
