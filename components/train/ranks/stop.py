"""Requests to stop early: SIGTERM, which schedulers send before they reclaim a machine."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from components.common.errors import TemporaryError

EXIT_CODE = TemporaryError.exit_code
"""75, "temporary failure": the run ended before its last step, and the same command resumes it."""


class Stop:
    """A flag that a signal or another rank sets; the loop checks it between steps."""

    def __init__(self) -> None:
        """Create the flag, not set."""
        self.requested = False

    @classmethod
    @contextmanager
    def on_sigterm(cls) -> Iterator[Stop]:
        """A flag that SIGTERM sets inside the block. Outside the main thread, signals cannot be handled."""
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
        """Request that the run stops after the current step."""
        self.requested = True
