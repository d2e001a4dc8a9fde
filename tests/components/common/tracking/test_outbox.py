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
