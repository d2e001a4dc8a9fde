"""Memory figures of processes, from Linux's /proc."""

from __future__ import annotations

import os
from pathlib import Path

from components.common.errors import MobanetError

MB = 2**20
"""Bytes of the unit in which the benches print memory."""


def private_bytes(pid: int | None = None) -> int:
    """Memory that a process has to itself: pages that it wrote and shares with nobody, the sum of `Private_Dirty`.

    Not counted: files mapped into memory, even where a single process looks at them (`Private_Clean`): they are the
    page cache's, which gives them up when memory is wanted. (Pages that the disk does not have yet would count: write
    files to the disk first.) Nor pages that a forked process shares with its parent.

    Args:
        pid: the process; None: this one.

    Raises:
        MobanetError: the system has no such figures.
    """
    path = Path(f"/proc/{pid or os.getpid()}/smaps_rollup")
    try:
        fields = dict(line.split(":", 1) for line in path.read_text().splitlines()[1:])
    except FileNotFoundError:
        raise MobanetError(f"{path}: no such file; memory can only be measured on Linux") from None
    return int(fields["Private_Dirty"].split()[0]) * 1024
