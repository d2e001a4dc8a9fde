"""Return freed memory to the system, so that the memory of a long run does not creep up.

The allocator of glibc keeps freed blocks of many sizes, which later blocks do not fit. A map of a hundred thousand rows
would end with 200 MB in such gaps.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

INTERVAL_S = 0.2
"""Time between two calls, seconds: often enough for little to gather, seldom enough to cost little."""


class Heap:
    """Trims the heap of this process from time to time."""

    def __init__(self) -> None:
        """Look for glibc; with another C library nothing is done."""
        try:
            self._trim: Callable[[int], int] | None = ctypes.CDLL(None).malloc_trim
        except (AttributeError, OSError):
            self._trim = None
        self._last_s = time.monotonic()

    def trim(self, *, now: bool = False) -> None:
        """Trim, if the last time is long enough ago or `now` is true."""
        if self._trim is not None and (now or time.monotonic() - self._last_s > INTERVAL_S):
            self._trim(0)
            self._last_s = time.monotonic()
