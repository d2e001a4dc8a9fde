"""Memory of this process and of all that it has started, sampled in a thread while something runs.

Pages that several processes map are shared out among them, so that the sum over processes counts each page once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from components.common.errors import MobanetError
from pipeline.bench.memory import MB, private_bytes


@dataclass(slots=True)
class Peaks:
    """The highest figures so far."""

    all_mb: float = 0.0  # of all processes together
    worker_private_mb: float = 0.0  # of the largest child: pages that it wrote and shares with nobody

    def look(self) -> None:
        """Take a sample."""
        me = psutil.Process()
        children = [_sizes(child) for child in me.children(recursive=True)]
        self.all_mb = max(self.all_mb, (_sizes(me)[0] + sum(shared_out for shared_out, _ in children)) / MB)
        self.worker_private_mb = max(self.worker_private_mb, *(private / MB for _, private in children), 0.0)


@contextmanager
def watched(every_s: float = 0.1) -> Iterator[Peaks]:
    """Sample while the block runs.

    Raises:
        MobanetError: the system has no such figures.
    """
    peaks, done = Peaks(), threading.Event()
    private_bytes()  # says so where there are none
    peaks.look()

    def sample() -> None:
        while not done.wait(every_s):
            peaks.look()

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def _sizes(process: psutil.Process) -> tuple[int, int]:
    """Bytes of a process, pages in common shared out, and its private bytes; 0 once it has ended."""
    try:
        return process.memory_full_info().pss, private_bytes(process.pid)
    except (psutil.Error, MobanetError, OSError):
        return 0, 0
