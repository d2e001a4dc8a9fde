"""What a store has yet to get: numbers and calls that wait while it does not answer, sent in order once it does.

Training never waits long for its log: a store that has failed is left alone for a while, and asked again later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from components.common.errors import reason

log = logging.getLogger(__name__)

BATCH = 1000
"""Points that are sent at once: the most that MLflow takes."""

RETRY_S = 30.0
"""How long a store that has failed is left alone."""


class Point(NamedTuple):
    """A number at a step."""

    metric: str
    value: float
    time_ms: int  # since 1970
    step: int
    once: bool  # not to be sent if the store has this metric at this step or a later one


class Outbox:
    """Takes everything, and sends it when it can."""

    def __init__(self, name: str, send: Callable[[Sequence[Point]], object], last_step: Callable[[str], int]) -> None:
        """Collect for a store.

        Args:
            name: of the store, for messages.
            send: stores points, all or none; raises whatever it likes when it cannot.
            last_step: last step at which the store has a metric, -1 if it has none.
        """
        self._name, self._send, self._ask = name, send, last_step
        self._points: list[Point] = []
        self._calls: list[tuple[str, Callable[[], object]]] = []  # what it is, and how to send it
        self._last: dict[str, int] = {}  # metric -> last step that the store has
        self._silent_until = 0.0  # seconds of the monotonic clock

    def put_points(self, points: Sequence[Point]) -> None:
        """Send points, or keep them for later."""
        self._points += points
        self.flush()

    def put_call(self, what: str, call: Callable[[], object]) -> None:
        """Send something else by calling `call`, or keep it for later; `what` names it in messages."""
        self._calls.append((what, call))
        self.flush()

    def flush(self, *, at_once: bool = False) -> None:
        """Send what waits; when the store does not take it, say so and try again later, or `at_once` even so."""
        if time.monotonic() < self._silent_until and not at_once:
            return
        try:
            while self._points:
                self._send_batch(self._points[:BATCH])
            while self._calls:
                self._calls[0][1]()
                del self._calls[0]
        except Exception as error:  # whatever MLflow, requests or a database raise: hours of training weigh more
            log.warning("%s did not take %s (%s); the run goes on", self._name, self.missing()[0], reason(error))
            self._last.clear()  # the answer may have been lost, and not what was sent
            self._silent_until = time.monotonic() + RETRY_S

    def missing(self) -> list[str]:
        """What waits, in words."""
        steps = [point.step for point in self._points]
        metrics = [f"metrics of the steps {min(steps)} to {max(steps)}"] if steps else []
        return metrics + [what for what, _ in self._calls]

    def _send_batch(self, batch: Sequence[Point]) -> None:
        new = [point for point in batch if not point.once or point.step > self._last_step(point.metric)]
        if new:
            self._send(new)
        self._last |= {point.metric: point.step for point in new if point.once}
        del self._points[: len(batch)]

    def _last_step(self, metric: str) -> int:
        if metric not in self._last:
            self._last[metric] = self._ask(metric)
        return self._last[metric]
