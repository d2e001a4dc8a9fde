"""Notice within a minute that another rank is gone, while this one waits for it in a collective.

A killed process closes its connections, which gloo and NCCL notice; a host that is cut off closes nothing. So every
rank counts up a number in the store that torchrun has opened for all. Rank 0 looks at everybody's number, the others at
rank 0's; whoever sees one stand still ends its process. A wish to stop travels the same way.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from datetime import timedelta
from typing import NoReturn

import torch.distributed as dist

from components.train.stop import EXIT_CODE, Stop

log = logging.getLogger(__name__)

BEAT_S = 2.0
PATIENCE_S = 30.0
"""A rank that has not counted for so long is lost."""


class Watch:
    """Beats and listens, in threads, while its block runs."""

    def __init__(self, rank: int, size: int, stop: Stop) -> None:
        """Watch as rank `rank` of `size`; the process group must be up."""
        self._rank, self._stop, self._done = rank, stop, threading.Event()
        self._heard = dict.fromkeys(range(1, size) if rank == 0 else [0], time.monotonic())
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=PATIENCE_S))
        self._store = dist.PrefixStore(f"mobanet/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._judge)]

    def __enter__(self) -> Watch:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; a failed rank falls silent, which is how the others learn of it."""
        self._done.set()

    def give_up(self, why: str) -> NoReturn:
        """End this process at once: its main thread may wait for a rank that will never answer."""
        log.error("%s; the run is over here. Start it again: it goes on from its last checkpoint", why)
        sys.stderr.flush()
        os._exit(EXIT_CODE)

    def _beat(self) -> None:
        counts: dict[int, int] = {}
        while not self._done.wait(BEAT_S):
            try:
                self._store.add(f"beat/{self._rank}", 1)
                if self._store.add("stop", int(self._stop.requested)):
                    self._stop.request()
                now = {rank: self._store.add(f"beat/{rank}", 0) for rank in self._heard}
            except RuntimeError:  # the store is gone or cut off: nobody is heard, and _judge decides
                continue
            for rank, count in now.items():
                if count != counts.get(rank):
                    counts[rank], self._heard[rank] = count, time.monotonic()

    def _judge(self) -> None:
        """Apart from `_beat`, which may wait for an answer without end."""
        while not self._done.wait(BEAT_S):
            silent = [rank for rank, heard in self._heard.items() if time.monotonic() - heard > PATIENCE_S]
            if silent:
                self.give_up(f"rank {silent[0]} has not been heard of for {PATIENCE_S:.0f} s")
