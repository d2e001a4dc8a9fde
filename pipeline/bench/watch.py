"""Peak memory of this process and its children, sampled by a thread.

A page that several processes map is divided among them, so that the sum over processes counts each page once.
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
    """The highest values so far."""

    all_mb: float = 0.0  # all processes together
    worker_private_mb: float = 0.0  # private memory of the largest child: pages that it wrote and does not share

    def look(self) -> None:
        """Take a sample."""
        me = psutil.Process()
        children = [_sizes(child) for child in me.children(recursive=True)]
        self.all_mb = max(self.all_mb, (_sizes(me)[0] + sum(shared_out for shared_out, _ in children)) / MB)
        self.worker_private_mb = max(self.worker_private_mb, *(private / MB for _, private in children), 0.0)


@contextmanager
def watched(every_s: float = 0.1) -> Iterator[Peaks]:
    """Sample every `every_s` seconds while the block runs.

    Raises:
        MobanetError: the system does not provide these figures.
    """
    peaks, done = Peaks(), threading.Event()
    private_bytes()  # raises an error if the figures are not available
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
    """Bytes of a process with shared pages divided among processes, and its private bytes; 0 if it has ended."""
    try:
        return process.memory_full_info().pss, private_bytes(process.pid)
    except (psutil.Error, MobanetError, OSError):
        return 0, 0
