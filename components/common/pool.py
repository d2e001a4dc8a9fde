"""Run a function on many jobs in worker processes: ordered results, original exceptions, immediate stop on Ctrl-C."""

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
        function: a module-level function; jobs and results must be picklable.
        jobs: arguments of the calls, one per call.
        workers: number of processes; 0: one per core; 1: run in the current process.

    Raises:
        DataError: a worker was killed. An exception of `function` is raised unchanged and ends the other workers.
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
        except BaseException as error:  # a bad tile, Ctrl-C, or the caller stopped early: end running jobs
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool | MemoryError):
                raise DataError(
                    f"one of {workers} processes was killed, most likely because memory ran out; use fewer processes "
                    "(preprocess.workers, --jobs) or smaller tiles (sample.side_px)"
                ) from None
            raise


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Number of cores that this process may use, at least 1.

    A container sees all cores of the machine; `quota`, a cgroup v2 file, holds the share it may use.
    """
    machine = len(os.sched_getaffinity(0))
    try:
        limit_us, period_us = quota.read_text().split()
        return max(1, min(machine, int(limit_us) // int(period_us)))
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return machine


def _end_with_parent() -> None:
    """Start a thread in a worker that ends the worker when its parent is killed; it would wait for jobs forever."""

    def watch(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    if parent := multiprocessing.parent_process():
        threading.Thread(target=watch, args=(parent,), daemon=True).start()


@contextmanager
def _children_deaf_to_interrupts() -> Iterator[None]:
    """Processes started in this block ignore Ctrl-C, which a terminal sends to all processes of a group.

    The current process receives a Ctrl-C of that time when the block ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
