"""Progress of a prediction: megapixels per second, the share of time that the device waited, and the time left."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from components.common.progress import QUIET_S, console, has_bar

if TYPE_CHECKING:
    from rich.progress import Progress

log = logging.getLogger(__name__)


class Meter:
    """Counts finished pixels; a bar on a terminal, else a log line about every 10 %. Use it in a `with` statement."""

    def __init__(
        self, total_px: int, done_px: int = 0, description: str = "predicting", clock: Callable[[], float] | None = None
    ) -> None:
        """Start to count.

        Args:
            total_px: pixels of the map.
            done_px: pixels that an earlier command finished; they do not count in the speed.
            description: the activity, for the bar and the log lines.
            clock: seconds; None: a monotonic clock.
        """
        self.total_px, self.pixels, self.waited_s = total_px, 0, 0.0
        self._done_px, self._description, self._clock = done_px, description, clock or time.monotonic
        self._start = self._last = self._clock()
        self._tenths = self._tenth()
        self._bar: Progress | None = None

    def __enter__(self) -> Meter:
        if has_bar():
            self._bar = _bar()
            self._bar.start()
            self._bar.add_task(self._description, total=self.total_px, completed=self._done_px, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time in the block as time that the device waits for input."""
        begin = self._clock()
        try:
            yield
        finally:
            self.waited(self._clock() - begin)

    def waited(self, seconds: float) -> None:
        """Add time that the device waited."""
        self.waited_s += seconds

    def finish(self, pixels: int) -> None:
        """Add finished pixels."""
        self.pixels += pixels
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=pixels, text=self.text())
            return
        now, tenths = self._clock(), self._tenth()
        if tenths > self._tenths and now - self._last >= QUIET_S:
            self._tenths, self._last = tenths, now
            log.info("%s: %s", self._description, self.text())

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return self._clock() - self._start

    @property
    def megapixels_per_s(self) -> float:
        """Speed since the start; pixels of earlier commands do not count."""
        return self.pixels / 1e6 / max(self.seconds, 1e-9)

    @property
    def waited_share(self) -> float:
        """Share of the time that the device waited, 0..1."""
        return min(1.0, self.waited_s / max(self.seconds, 1e-9))

    def text(self) -> str:
        """The figures in words."""
        done, total = (pixels / 1e6 for pixels in (self._done_px + self.pixels, self.total_px))
        speed = self.megapixels_per_s
        left = duration((total - done) / speed) if speed else "unknown time"
        waited = f"device waited {100 * self.waited_share:.0f} %"
        return f"{done:.1f} of {total:.1f} megapixels, {speed:.2f} megapixels/s, {waited}, {left} left"

    def _tenth(self) -> int:
        return 10 * (self._done_px + self.pixels) // max(1, self.total_px)


def duration(seconds: float) -> str:
    """A time in its largest fitting unit: `40 s`, `2 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bar() -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), console=console())
