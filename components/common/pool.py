"""A function over many jobs, in processes: results in order, errors as they were raised, Ctrl-C obeyed at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

from components.common.errors import DataError

J = TypeVar("J")
R = TypeVar("R")


def pooled(function: Callable[[J], R], jobs: Sequence[J], workers: int) -> Iterator[R]:
    """Yield `function(job)` for each job, in order.

    Args:
        function: importable by name; so are the classes of jobs and results.
        jobs: what to do.
        workers: processes; 0 means one per core; 1 means this very process.

    Raises:
        DataError: a worker was killed. Whatever `function` raises comes as it is and ends the other workers.
    """
    workers = min(workers or cores(), len(jobs))
    if workers <= 1:
        yield from map(function, jobs)
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # GDAL must not be forked
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        with _children_deaf_to_interrupts():
            futures = [pool.submit(function, job) for job in jobs]
        try:
            for future in futures:
                yield future.result()
        except BaseException as error:  # a bad tile, Ctrl-C, or nobody wants the rest: end the work under way
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool | MemoryError):
                raise DataError(
                    f"one of {workers} processes was killed, most likely for want of memory; work with fewer "
                    "(preprocess.workers, --jobs) or on smaller tiles (sample.side_px)"
                ) from None
            raise


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may use: a container sees all of the machine's, and the file says its share of them."""
    machine = len(os.sched_getaffinity(0))
    try:
        limit_us, period_us = quota.read_text().split()
        return max(1, min(machine, int(limit_us) // int(period_us)))
    except (OSError, ValueError):  # no control groups of version 2, or "max": no limit
        return machine


def _end_with_parent() -> None:
    """Start a watch in a worker: if its parent is killed, nobody else would tell it that no job will come."""

    def watch(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    if parent := multiprocessing.parent_process():
        threading.Thread(target=watch, args=(parent,), daemon=True).start()


@contextmanager
def _children_deaf_to_interrupts() -> Iterator[None]:
    """Processes started here never see Ctrl-C, which a terminal sends to all; this one gets it after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
