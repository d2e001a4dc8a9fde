"""Detect within a minute that another rank is lost, even while this rank waits for it in a collective.

A killed process closes its connections, which gloo and NCCL detect. A disconnected host closes nothing. Therefore every
rank increments a counter in torchrun's shared store. Rank 0 watches the counters of all ranks, and the other ranks
watch that of rank 0. A rank that sees a counter stop ends its process. Requests to stop are sent the same way.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import NoReturn

import torch.distributed as dist

from components.train.ranks.stop import EXIT_CODE, Stop

BEAT_S = 2.0
PATIENCE_S = 30.0
"""A rank is lost if its counter has not changed for this time, seconds."""

JOIN_S = 600.0
"""The same before its first heartbeat: hosts and processes may start at different times."""


class Watch:
    """Sends heartbeats and receives stop requests in background threads while its block runs."""

    def __init__(self, rank: int, size: int, stop: Stop) -> None:
        """Connect rank `rank` of `size` to the store; rank 0 or torchrun must have opened it."""
        self._rank, self._stop, self._done = rank, stop, threading.Event()
        watched = range(1, size) if rank == 0 else [0]
        self._heard, self._patience_s = dict.fromkeys(watched, time.monotonic()), dict.fromkeys(watched, JOIN_S)
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=PATIENCE_S))
        self._store = dist.PrefixStore(f"mobanet/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._judge)]

    def __enter__(self) -> Watch:
        """Start the threads."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the threads. After an error, the missing heartbeats tell the other ranks that this rank has failed."""
        self._done.set()

    def give_up(self, why: str) -> NoReturn:
        """End this process immediately: its main thread may be waiting for a rank that will never answer."""
        sys.stderr.write(f"error: {why}\n")  # in one piece: other ranks may write to the same file
        sys.stderr.flush()
        os._exit(EXIT_CODE)

    def _beat(self) -> None:
        counts = dict.fromkeys(self._heard, 0)
        while True:
            with suppress(RuntimeError):  # the store is unreachable: no counter changes, and _judge decides
                self._store.add(f"beat/{self._rank}", 1)
                if self._store.add("stop", int(self._stop.requested)):
                    self._stop.request()
                now = {rank: self._store.add(f"beat/{rank}", 0) for rank in counts}
                for rank in [rank for rank in counts if now[rank] != counts[rank]]:
                    counts[rank], self._heard[rank], self._patience_s[rank] = now[rank], time.monotonic(), PATIENCE_S
            if self._done.wait(BEAT_S):
                return

    def _judge(self) -> None:
        """End the process if a rank is silent. A separate thread, because `_beat` may wait forever for an answer."""
        while not self._done.wait(BEAT_S):
            now = time.monotonic()
            for rank, heard in self._heard.items():
                if now - heard > (patience_s := self._patience_s[rank]):
                    self.give_up(
                        f"train rank {self._rank}: rank {rank} has not responded for {patience_s:.0f} s; see the log "
                        "of that rank, then run the same command again to resume from the last checkpoint"
                    )
