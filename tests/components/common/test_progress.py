import io
import logging
import subprocess
import sys

import pytest

from components.common import progress
from components.common.progress import track


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Call it in the test: pytest puts its own stderr back between the set-up of a test and the test."""

    def take_over():
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setenv("TERM", "xterm")
        return screen

    progress.console.cache_clear()
    yield take_over
    progress.console.cache_clear()


def test_items_come_through_in_order_and_a_line_is_logged_every_tenth(caplog, monkeypatch):
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    caplog.set_level(logging.INFO)
    assert list(track(range(200), "reading tiles")) == list(range(200))
    assert [message.split(", ")[0] for message in caplog.messages] == [
        f"reading tiles: {done} of 200" for done in range(20, 201, 20)
    ]


def test_an_iterator_is_counted_by_the_total_given(caplog, monkeypatch):
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    caplog.set_level(logging.INFO)
    assert list(track(iter("abc"), "letters", total=3)) == ["a", "b", "c"]
    assert [message.split(", ")[0] for message in caplog.messages] == [f"letters: {n} of 3" for n in (1, 2, 3)]


def test_a_short_loop_and_a_loop_of_unknown_length_log_nothing(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    assert len(list(track(range(50), "quick"))) == 50
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    assert len(list(track(iter(range(50)), "endless"))) == 50
    assert caplog.messages == []


def test_a_terminal_gets_a_bar(terminal):
    screen = terminal()
    assert list(track(range(4), "reading tiles")) == [0, 1, 2, 3]
    assert "reading tiles" in screen.getvalue()
    assert "4/4" in screen.getvalue()


def test_a_bar_may_run_inside_the_loop_of_another(terminal):
    screen = terminal()
    assert [list(track(range(3), "inner")) for _ in track(range(2), "outer")] == [[0, 1, 2]] * 2
    assert "inner" in screen.getvalue()
    assert "2/2" in screen.getvalue()


def test_a_terminal_without_rich_gets_no_bar(terminal, monkeypatch):
    screen = terminal()
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    assert list(track(range(4), "reading tiles")) == [0, 1, 2, 3]
    assert screen.getvalue() == ""


def test_rich_is_not_imported_with_the_module():
    code = "import sys, components.common.progress; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_loop_that_logs_by_itself_gets_no_lines_beside_a_terminal(caplog, monkeypatch):
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    caplog.set_level(logging.INFO)
    assert list(track(range(20), "training", lines=False)) == list(range(20))
    assert caplog.messages == []
