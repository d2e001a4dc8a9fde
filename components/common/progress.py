"""Progress of a long loop: a bar on a terminal, else a log line about every 10 %. Items pass through unchanged."""

from __future__ import annotations

import functools
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

T = TypeVar("T")

QUIET_S = 1.0
"""Minimum time between two log lines of a loop, seconds, so that short loops log nothing."""


def track(iterable: Iterable[T], description: str, total: int | None = None, *, lines: bool = True) -> Iterator[T]:
    """Yield the items, and show on stderr how many are done.

    Args:
        iterable: the items.
        description: the activity, for the bar and the log lines, for example "reading tiles".
        total: number of items; None: the length of the iterable. If it has no length, there are no log lines.
        lines: whether to log where there is no terminal; False for a loop that logs by itself.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if has_bar():
        return _bar(iterable, description, total)
    return _lines(iterable, description, total) if lines else iter(iterable)


def has_bar() -> bool:
    """Whether to draw a bar. Rich is optional: a machine that only trains does not need it."""
    if not sys.stderr.isatty():
        return False
    try:
        import rich.progress  # noqa: F401
    except ImportError:
        return False
    return True


@functools.cache
def console() -> Console:
    """One console for all bars, so that the bar of an inner loop is drawn below the outer one."""
    from rich.console import Console

    return Console(stderr=True)


def _bar(iterable: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console()) as progress:
        yield from progress.track(iterable, total=total, description=description)


def _lines(iterable: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    start = last = time.monotonic()
    tenths = 0
    for done, item in enumerate(iterable, start=1):
        yield item
        now = time.monotonic()
        if total and done * 10 // total > tenths and now - last >= QUIET_S:
            tenths, last = done * 10 // total, now
            log.info("%s: %d of %d, %.0f s", description, done, total, now - start)
