"""The wish to stop early: SIGTERM, which schedulers send before they take a machine away."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = os.EX_TEMPFAIL
"""75, "temporary failure": a run ended before its last step, and the same command goes on with it."""


class Stop:
    """Set once, by a signal or by another rank; the loop looks at it between steps."""

    def __init__(self) -> None:
        """Nobody wants to stop yet."""
        self.requested = False

    @classmethod
    @contextmanager
    def on_sigterm(cls) -> Iterator[Stop]:
        """A wish that SIGTERM sets while the block runs; outside the main thread no signal can be taken."""
        stop = cls()
        if threading.current_thread() is not threading.main_thread():
            yield stop
            return
        before = signal.signal(signal.SIGTERM, lambda *_: stop.request())
        try:
            yield stop
        finally:
            signal.signal(signal.SIGTERM, before)

    def request(self) -> None:
        """Ask for the end of the run after the step under way."""
        self.requested = True
