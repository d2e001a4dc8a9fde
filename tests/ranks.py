"""Several ranks in one test: processes that are forked, joined by gloo on this machine, and asked for their results."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from contextlib import closing
from typing import Any

import torch

DEADLINE_S = 120


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def on_ranks(size: int, work: Callable[[], Any], deaf: int | None = None) -> list[Any]:
    """Results of `work` on each of `size` ranks, or the traceback or exit code that ended it.

    Rank `deaf` is not waited for, and killed when the others have ended.
    """
    context = multiprocessing.get_context("fork")  # `work` may be any function, and torch is imported already
    port, pipes, processes = free_port(), {}, {}
    for rank in range(size):
        pipes[rank], theirs = context.Pipe()
        processes[rank] = context.Process(target=_run, args=(rank, size, port, work, theirs))
        processes[rank].start()
        theirs.close()
    results = {rank: _result(pipes[rank], processes[rank]) for rank in processes if rank != deaf}
    if deaf is not None:
        processes[deaf].kill()
        results[deaf] = None
    for process in processes.values():
        process.join(DEADLINE_S)
    return [results[rank] for rank in processes]


def _result(pipe, process) -> Any:
    try:
        return pipe.recv() if pipe.poll(DEADLINE_S) else "no answer in time"
    except EOFError:
        process.join(DEADLINE_S)
        return process.exitcode


def _run(rank: int, size: int, port: int, work: Callable[[], Any], pipe) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)  # a fork has none of the threads that the parent's pool believes in
    try:
        pipe.send(work())
    except SystemExit as end:
        pipe.send(end.code)
    except BaseException:
        pipe.send(traceback.format_exc())
