"""Memory figures of processes, from Linux's /proc."""

from __future__ import annotations

import os
from pathlib import Path

from components.common.errors import MobanetError

MB = 2**20
"""Bytes per MB in the benchmark results."""


def private_bytes(pid: int | None = None) -> int:
    """Private memory of a process, bytes: pages that it wrote and does not share, the sum of `Private_Dirty`.

    Memory-mapped files do not count, even if only this process maps them (`Private_Clean`), because the page cache
    frees them when memory is needed. Unwritten pages of files would count, so flush files to disk first. Pages that a
    forked process shares with its parent do not count either.

    Args:
        pid: the process; None: this one.

    Raises:
        MobanetError: the system does not provide these figures.
    """
    path = Path(f"/proc/{pid or os.getpid()}/smaps_rollup")
    try:
        fields = dict(line.split(":", 1) for line in path.read_text().splitlines()[1:])
    except FileNotFoundError:
        raise MobanetError(f"{path}: no such file; memory can only be measured on Linux") from None
    return int(fields["Private_Dirty"].split()[0]) * 1024
