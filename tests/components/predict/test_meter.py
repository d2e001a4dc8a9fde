from __future__ import annotations

import logging

import pytest

from components.predict.scores import meter
from components.predict.scores.meter import Meter, duration


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_figures_are_those_of_this_command():
    clock = Clock()
    measured = Meter(144_000_000, done_px=2_300_000, clock=clock)
    for _ in range(4):
        with measured.waiting():
            clock.now += 0.1
        clock.now += 2.4
        measured.finish(2_500_000)
    assert measured.seconds == pytest.approx(10) and measured.waited_share == pytest.approx(0.04)
    assert measured.megapixels_per_s == pytest.approx(1.0)
    assert measured.text() == "12.3 of 144.0 megapixels, 1.00 megapixels/s, device waited 4 %, 2 min left"


def test_nothing_finished_is_no_division_by_zero():
    measured = Meter(0, clock=Clock())
    measured.finish(0)
    assert measured.text() == "0.0 of 0.0 megapixels, 0.00 megapixels/s, device waited 0 %, unknown time left"


def test_a_log_line_appears_about_every_tenth_and_not_more_often_than_once_a_second(caplog, monkeypatch):
    monkeypatch.setattr(meter, "has_bar", lambda: False)
    clock = Clock()
    with caplog.at_level(logging.INFO), Meter(1000, description="mapping", clock=clock) as measured:
        for _ in range(100):
            clock.now += 0.15
            measured.finish(10)
    lines = [record.message for record in caplog.records]
    assert len(lines) == 10 and lines[0].startswith("mapping: 0.0 of 0.0 megapixels")
    caplog.clear()
    with caplog.at_level(logging.INFO), Meter(1000, clock=clock) as measured:
        for _ in range(100):
            measured.finish(10)
    assert caplog.records == []


def test_a_terminal_has_a_bar_instead_of_lines(caplog, monkeypatch):
    monkeypatch.setattr(meter, "has_bar", lambda: True)
    clock = Clock()
    with caplog.at_level(logging.INFO), Meter(1000, done_px=500, clock=clock) as measured:
        clock.now += 5
        measured.finish(500)
        (task,) = measured._bar.tasks
        assert task.completed == 1000 and task.fields["text"] == measured.text()
    assert caplog.records == []


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (120, "2 min"), (12_600, "3.5 h")])
def test_a_duration_has_the_largest_fitting_unit(seconds, text):
    assert duration(seconds) == text
