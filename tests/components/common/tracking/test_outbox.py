from __future__ import annotations

import pytest

from components.common.tracking import outbox
from components.common.tracking.outbox import Outbox, Point


class Store:
    """A store that accepts points unless it is away; with `lose_answer` it accepts them but its answer gets lost."""

    def __init__(self):
        self.points, self.away, self.lose_answer, self.tries = [], False, False, 0

    def send(self, points):
        self.tries += 1
        if self.away:
            raise ConnectionError("nobody there")
        self.points += [(p.metric, p.step) for p in points]
        if self.lose_answer:
            self.lose_answer = False
            raise TimeoutError

    def last_step(self, metric):
        return max((step for name, step in self.points if name == metric), default=-1)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def box(store):
    return Outbox("the store", store.send, store.last_step)


def at(*steps, once=True):
    return [Point("loss", 1.0, 0, step, once) for step in steps]


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(outbox.time, "monotonic", lambda: now[0])
    return now


def test_a_store_that_failed_is_left_alone_for_a_while_and_then_gets_everything_in_order(store, box, clock, caplog):
    store.away = True
    for step in (1, 2, 3):
        box.put_points(at(step))
    assert store.tries == 1 and caplog.text.count("did not accept") == 1
    box.put_call("a picture", lambda: store.points.append("picture"))
    store.away = False
    clock[0] += outbox.RETRY_S
    box.put_points(at(4))
    assert store.points == [("loss", 1), ("loss", 2), ("loss", 3), ("loss", 4), "picture"]
    assert box.missing() == []


def test_points_that_arrived_before_the_answer_was_lost_are_not_sent_twice(store, box, clock):
    store.lose_answer = True
    box.put_points(at(1, 2))
    box.flush(at_once=True)
    assert store.points == [("loss", 1), ("loss", 2)]


def test_a_long_wait_is_sent_in_batches(store, box, clock):
    store.away = True
    box.put_points(at(*range(2500)))
    store.away, store.tries = False, 0
    box.flush(at_once=True)
    assert store.tries == 3 and len(store.points) == 2500


def test_what_waits_is_named(store, box):
    store.away = True
    box.put_points(at(7, 9))
    box.put_call("report.html", lambda: None)
    assert box.missing() == ["metrics of steps 7 to 9", "report.html"]


class InvalidError(Exception):
    """An answer that can never succeed."""


class Strict(Store):
    """A store that refuses requests with certain points, as a whole."""

    def __init__(self, *invalid):
        super().__init__()
        self.invalid, self.away_after = invalid, None

    def send(self, points):
        if self.away_after is not None and self.tries >= self.away_after:
            raise ConnectionError("nobody there")
        if any((p.metric, p.step) in self.invalid or p.metric in self.invalid for p in points):
            self.tries += 1
            raise InvalidError(f"invalid name in {len(points)} points")
        super().send(points)


def strict(store):
    return Outbox("the store", store.send, store.last_step, lambda error: isinstance(error, InvalidError))


def named(metric, *steps):
    return [Point(metric, 1.0, 0, step, True) for step in steps]


def test_a_metric_that_is_refused_for_good_does_not_block_other_points_or_what_follows(caplog):
    store = Strict("b")
    box = strict(store)
    box.put_points(named("a", 1) + named("b", 1) + named("c", 1))
    box.put_call("report.html", lambda: store.points.append("report"))
    assert store.points == [("a", 1), ("c", 1), "report"]
    assert box.missing() == ["metric b"]
    assert caplog.messages == [
        "the store refuses metric b (invalid name in 1 points), which is left out; the run continues"
    ]


def test_the_same_refusal_is_reported_once(caplog):
    box = strict(Strict("b"))
    for step in range(5):
        box.put_points(named("b", step))
    assert len(caplog.messages) == 1 and box.missing() == ["metric b"]


def test_of_a_metric_with_one_refused_point_all_others_are_sent_in_order():
    store = Strict(("a", 7))
    box = strict(store)
    box.put_points(named("a", *range(20)))
    assert store.points == [("a", step) for step in range(20) if step != 7]


def test_a_call_that_is_refused_for_good_is_dropped_and_named(caplog):
    store = Strict()
    box = strict(store)

    def refuse():
        raise InvalidError("too long")

    box.put_call("tags", refuse)
    box.put_call("report.html", lambda: store.points.append("report"))
    assert store.points == ["report"]
    assert box.missing() == ["tags"]
    assert "the store refuses tags (too long), which is left out" in caplog.text


def test_an_outage_between_the_parts_of_a_refused_batch_loses_and_repeats_nothing(clock):
    store = Strict("b")
    box = strict(store)
    store.away_after = 2  # the batch is refused, metric a arrives, then the store is away
    box.put_points([p._replace(once=False) for p in named("a", 1) + named("b", 1) + named("c", 1)])
    assert store.points == [("a", 1)] and box.missing() == ["metrics of steps 1 to 1"]
    store.away_after = None
    box.flush(at_once=True)
    assert store.points == [("a", 1), ("c", 1)]
    assert box.missing() == ["metric b"]
