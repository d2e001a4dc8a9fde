"""Follow a run to its end: a table of its tasks on a terminal, else one log line per change."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import kfp_server_api as kfp
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.submission.api import Server

log = logging.getLogger(__name__)

COLOURS = {
    "FAILED": "red",
    "CANCELED": "red",
    "CANCELING": "red",
    "PAUSED": "yellow",
    "RUNNING": "cyan",
    "PENDING": "",
    "SUCCEEDED": "green",
    "SKIPPED": "green",
}
"""State -> its colour. For a task that runs once per shard, the first state in this order is shown."""

ENDED_WELL = {"SUCCEEDED", "SKIPPED"}
ENDED = {*ENDED_WELL, "FAILED", "CANCELED"}

FIRST_POLL_S, LONGEST_POLL_S = 1.0, 15.0
"""Pause between two requests for the run's state, seconds; each pause is 1.5 times the previous one."""

POLL_PATIENCE_S = 1800.0
"""How long to retry while the server is busy, seconds: an upgrade of the cluster takes minutes."""


class Row(NamedTuple):
    """State of a task of the graph."""

    task: str
    state: str  # as text
    colour: str
    seconds: float | None  # run time so far, or until the end; None: not started

    @property
    def time(self) -> str:
        """Run time as hours:minutes:seconds; empty if not started."""
        if self.seconds is None:
            return ""
        minutes, seconds = divmod(int(self.seconds), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def watch(server: Server, run_id: str, tasks: Sequence[str]) -> str | None:
    """Show the tasks of a run until it ends.

    Args:
        server: server of the run.
        run_id: id of the run.
        tasks: tasks of the graph, in display order.

    Returns:
        Why the run failed; None: it succeeded.

    Raises:
        ServerError: the server rejects a request, or does not answer for half an hour.
    """
    api, pause_s = kfp.RunServiceApi(server.api), FIRST_POLL_S
    with _shown(tasks) as show:
        while True:
            run = server.ask(api.run_service_get_run, run_id, patience_s=POLL_PATIENCE_S)
            show(_details(run))
            if run.state in ENDED:
                return None if run.state == "SUCCEEDED" else failure(run, tasks)
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, LONGEST_POLL_S)


def rows(tasks: Sequence[str], details: Sequence[Any], now: datetime) -> list[Row]:
    """State of the tasks of a graph; groups and helper tasks, which the server also lists, are left out."""
    found = []
    for task in tasks:
        ours = [one for one in details if one.display_name == task]
        state = min((one.state or "" for one in ours), key=_rank, default="")
        words = state.lower()
        if len(ours) > 1:
            words += f", {sum(one.state in ENDED_WELL for one in ours)} of {len(ours)}"
        begun = [one.start_time for one in ours if one.start_time]
        ended = [one.end_time for one in ours if one.end_time]
        until = max(ended) if ended and len(ended) == len(ours) else now
        seconds = max(0.0, (until - min(begun)).total_seconds()) if begun else None
        found.append(Row(task, words, COLOURS.get(state, ""), seconds))
    return found


def _rank(state: str) -> int:
    return list(COLOURS).index(state) if state in COLOURS else len(COLOURS)


def failure(run: Any, tasks: Sequence[str]) -> str:
    """Why a run did not succeed, as one sentence without a full stop."""
    failed = [one for one in _details(run) if one.state == "FAILED"]
    names = {one.display_name.removesuffix("-driver"): _message(one) for one in failed if one.display_name}
    ours = [name for name in tasks if name in names] or list(names)[:1]
    if run.state == "FAILED" and ours:
        message = next((names[name] for name in ours if names[name]), "")
        which = f"the task {ours[0]}" if len(ours) == 1 else f"the tasks {' and '.join(ours)}"
        return f"{which} failed" + (f" ({message})" if message else "")
    message = _message(run)
    return f"the run ended as {run.state.lower()}" + (f" ({message})" if message else "")


def table(found: Sequence[Row]) -> Table:
    """Rows as a rich table."""
    drawn = Table("task", "state", box=SIMPLE_HEAD)
    drawn.add_column("time", justify="right")
    for row in found:
        drawn.add_row(row.task, Text(row.state, row.colour), row.time)
    return drawn


def _details(run: Any) -> list[Any]:
    return (run.run_details and run.run_details.task_details) or []


def _message(thing: Any) -> str:
    return " ".join(str((thing.error and thing.error.message) or "").split())[:300]


@contextmanager
def _shown(tasks: Sequence[str]) -> Iterator[Callable[[list[Any]], None]]:
    """Yield a function that shows the task details of a run on stderr."""
    if not sys.stderr.isatty():
        yield _Lines(tasks).show
        return
    details: list[Any] = []

    def draw() -> Table:
        return table(rows(tasks, details, datetime.now(UTC)))

    def show(new: list[Any]) -> None:
        details[:] = new

    with Live(
        console=Console(stderr=True), get_renderable=draw, refresh_per_second=2
    ):  # updates the run times between requests
        yield show


class _Lines:
    """Writes a log line for every change."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self._tasks, self._before = tasks, dict.fromkeys(tasks, "")

    def show(self, details: list[Any]) -> None:
        for row in rows(self._tasks, details, datetime.now(UTC)):
            if row.state != self._before[row.task]:
                log.info("%s: %s", row.task, ", ".join(filter(None, (row.state, row.time))))
                self._before[row.task] = row.state
