"""Make items in a background thread, a few ahead of their use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Generic, TypeVar

T = TypeVar("T")

POLL_S = 0.1
"""Time after which a thread that waits for space looks whether it must stop, seconds."""


@contextmanager
def prefetched(
    items: Iterable[T], ahead: int, waiting: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Generator[Iterator[T]]:
    """Items in their order, made by one background thread.

    An error in the thread is raised once, where the next item is taken. When the block ends, also by an error or
    Ctrl-C, the thread stops after the item that it is making.

    Args:
        items: the items; they are taken in the thread only.
        ahead: how many finished items may wait.
        waiting: context manager that is entered while an item is waited for.
    """
    worker = _Worker(items, ahead)
    worker.thread.start()
    try:
        yield worker.taken(waiting)
    finally:
        worker.stop()


class _Worker(Generic[T]):
    """The thread and its queue. A message is an item, an error, or the end."""

    def __init__(self, items: Iterable[T], ahead: int) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(ahead)
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="predict-reader", daemon=True)

    def taken(self, waiting: Callable[[], AbstractContextManager[object]]) -> Iterator[T]:
        """Yield the items."""
        while True:
            with waiting():
                message = self._queue.get()
            if message is None:
                return
            if isinstance(message, BaseException):
                raise message
            yield message[0]

    def stop(self) -> None:
        """Stop the thread and wait for it."""
        self._stopping.set()
        self.thread.join()

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            for item in self._items:
                if not self._put((item,)):
                    return
        except BaseException as error:
            end = error
        self._put(end)

    def _put(self, message: tuple[T] | BaseException | None) -> bool:
        """Whether the message was taken before the thread had to stop."""
        while not self._stopping.is_set():
            try:
                self._queue.put(message, timeout=POLL_S)
                return True
            except queue.Full:
                continue
        return False
