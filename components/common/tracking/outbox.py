"""Queue of metrics and calls for a tracking store. They wait while it does not answer and are sent in order afterwards.

Training never waits long for its log: after a failure, the next attempt is made `RETRY_S` later. What the store refuses
for good is dropped and reported, so that it does not block what comes after it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from components.common.errors import reason

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 1000
"""Points per request: the most that MLflow accepts."""

ENTRIES = 100
"""Parameters or tags per request: the most that MLflow accepts."""

RETRY_S = 30.0
"""Pause after a failed request, seconds."""


class Point(NamedTuple):
    """The value of a metric at a step."""

    metric: str
    value: float
    time_ms: int  # milliseconds since 1970
    step: int
    once: bool  # skip it if the store has this metric at this step or a later one


class Outbox:
    """Accepts everything at once, and sends it as soon as the store answers."""

    def __init__(
        self,
        name: str,
        send: Callable[[Sequence[Point]], object],
        last_step: Callable[[str], int],
        refused: Callable[[Exception], bool] = lambda error: False,
        explain: Callable[[Exception], str] = reason,
    ) -> None:
        """Queue points and calls for one store.

        Args:
            name: name of the store, for messages.
            send: stores points, all or none; may raise any exception.
            last_step: metric -> last step at which the store has it, -1 if it has none.
            refused: whether an exception is the store's final answer, so that another attempt cannot succeed.
            explain: an exception -> text for messages.
        """
        self._name, self._send, self._ask, self._is_refused, self._explain = name, send, last_step, refused, explain
        self._points: list[Point] = []
        self._calls: list[tuple[str, Callable[[], object]]] = []  # (description, function that sends it)
        self._last: dict[str, int] = {}  # metric -> last step in the store
        self._dropped: dict[str, None] = {}  # descriptions of what the store has refused; an ordered set
        self._silent_until = 0.0  # seconds, monotonic clock

    def put_points(self, points: Sequence[Point]) -> None:
        """Send points now, or queue them if the store does not answer."""
        self._points += points
        self.flush()

    def put_call(self, what: str, call: Callable[[], object]) -> None:
        """Send something else by calling `call` now or later; `what` describes it in messages."""
        self._calls.append((what, call))
        self.flush()

    def put(
        self, kind: str, items: Sequence[T], send: Callable[[Sequence[T]], object], name: Callable[[T], str]
    ) -> None:
        """Send items in few requests, now or later. If some are refused, all others are sent.

        Args:
            kind: what an item is, for messages.
            items: the items; sending one again must be harmless.
            send: stores items, all or none.
            name: name of an item, for messages.
        """
        for start in range(0, len(items), ENTRIES):
            part = items[start : start + ENTRIES]
            self.put_call(f"{kind}s", partial(self._send_items, kind, part, send, name))

    def flush(self, *, at_once: bool = False) -> None:
        """Send the queue. If the store fails, log a warning and keep the rest; `at_once` ignores the pause."""
        if time.monotonic() < self._silent_until and not at_once:
            return
        try:
            while self._points:
                self._send_points(self._points[:BATCH])
            while self._calls:
                self._send_call(*self._calls[0])
                del self._calls[0]
        except Exception as error:  # any error of MLflow, requests or a database: it must not stop a training
            log.warning(
                "%s did not accept %s (%s); the run continues", self._name, self._queued()[0], self._explain(error)
            )
            self._last.clear()  # perhaps the data arrived and only the answer was lost
            self._silent_until = time.monotonic() + RETRY_S

    def drain(self, pauses_s: Sequence[float]) -> None:
        """Send the queue, with further attempts after these pauses while the store does not answer."""
        self.flush(at_once=True)
        for pause in pauses_s:
            if not self._queued():
                return
            time.sleep(pause)
            self.flush(at_once=True)

    def missing(self) -> list[str]:
        """Descriptions of what the store does not have: what it has refused, and what has not been sent."""
        return [*self._dropped, *self._queued()]

    def _queued(self) -> list[str]:
        steps = [point.step for point in self._points]
        metrics = [f"metrics of steps {min(steps)} to {max(steps)}"] if steps else []
        return metrics + [what for what, _ in self._calls]

    def _send_points(self, batch: Sequence[Point]) -> None:
        """Send points and remove them from the queue. If the store refuses a batch, its parts are sent one by one."""
        new = [point for point in batch if not point.once or point.step > self._last_step(point.metric)]
        try:
            if new:
                self._send(new)
        except Exception as error:
            if not self._is_refused(error):
                raise
            if len(new) > 1:
                for part in _parts(new):
                    self._send_points(part)
            else:
                self._drop(f"metric {new[0].metric}", error)
        else:
            self._last |= {point.metric: point.step for point in new if point.once}
        done = set(map(id, batch))
        self._points = [point for point in self._points if id(point) not in done]

    def _send_call(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            if not self._is_refused(error):
                raise
            self._drop(what, error)

    def _send_items(
        self, kind: str, items: Sequence[T], send: Callable[[Sequence[T]], object], name: Callable[[T], str]
    ) -> None:
        """Send items. If the store refuses them, its halves are sent, down to the items that it refuses."""
        try:
            send(items)
        except Exception as error:
            if not self._is_refused(error):
                raise
            if len(items) == 1:
                self._drop(f"{kind} {name(items[0])}", error)
                return
            for half in (items[: len(items) // 2], items[len(items) // 2 :]):
                self._send_items(kind, half, send, name)

    def _drop(self, what: str, error: Exception) -> None:
        if what not in self._dropped:
            log.warning(
                "%s refuses %s (%s), which is left out; the run continues", self._name, what, self._explain(error)
            )
        self._dropped[what] = None

    def _last_step(self, metric: str) -> int:
        if metric not in self._last:
            self._last[metric] = self._ask(metric)
        return self._last[metric]


def _parts(points: Sequence[Point]) -> Iterator[Sequence[Point]]:
    """The points of each metric; of a single metric, both halves."""
    metrics = dict.fromkeys(point.metric for point in points)
    if len(metrics) > 1:
        yield from ([point for point in points if point.metric == metric] for metric in metrics)
    else:
        yield points[: len(points) // 2]
        yield points[len(points) // 2 :]
