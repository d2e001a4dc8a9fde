"""Write the files of a run in a background thread, so that training continues during a write.

In: copies of tensors in CPU memory. Out: files, one at a time: candidates in their order, then the newest checkpoint.
A checkpoint whose write has not begun is replaced by the next one. So two copies are enough for any disk, and a slow
disk costs checkpoints but not the newest one.
The workers of a data loader are forks of this process and may start during a write. They use no lock of this module.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)


class Snapshot:
    """A copy of tensors in CPU memory. It can be taken again, which reuses its memory."""

    def __init__(self) -> None:
        """Create a snapshot without memory."""
        self._copies: dict[str, Tensor] = {}
        self._copied: torch.cuda.Event | None = None

    def take(self, tensors: Mapping[str, Tensor]) -> Snapshot:
        """Copy `tensors` into contiguous memory.

        From a GPU, the copies are queued on the current stream, into pinned memory. The CPU does not wait for them, and
        kernels that are queued later, such as the next optimiser step, begin when the copies are complete.
        """
        memory = {name: _memory_for(tensor, self._copies.get(name)) for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            memory[name].copy_(tensor.detach(), non_blocking=True)
        self._copies, self._copied = memory, None
        if device := next((tensor.device for tensor in tensors.values() if tensor.is_cuda), None):
            self._copied = torch.cuda.current_stream(device).record_event(torch.cuda.Event(blocking=True))
        return self

    def tensors(self) -> Mapping[str, Tensor]:
        """The copies; waits until they are complete."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._copies


def _memory_for(tensor: Tensor, used: Tensor | None) -> Tensor:
    if used is not None and (used.shape, used.dtype) == (tensor.shape, tensor.dtype):
        return used
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)


@dataclass(frozen=True, slots=True)
class Draft:
    """A file that is to be written."""

    name: str  # without suffix
    step: int
    snapshot: Snapshot
    header: Mapping[str, Any]
    obsolete: frozenset[str] = frozenset()  # candidates that can be removed once this file is on disk


class Writer:
    """A thread that writes drafts. Its errors are raised by the next call of any method but `close`."""

    def __init__(self, write: Callable[[Draft], None]) -> None:
        """Use `write` to write one draft; its OSError is logged, stored as `problem`, and ends nothing."""
        self.candidates: dict[str, Draft] = {}  # in memory: not written yet, or waiting for free disk space
        self.problem: str | None = None  # why the latest write failed; None: it succeeded
        self._write = write
        self._checkpoint: Draft | None = None  # the newest one, if its write has not begun
        self._free: list[Snapshot] = []
        self._submitted = self._busy = self._closed = self._reported = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def snapshot(self) -> Snapshot:
        """A snapshot to take for the next checkpoint. A checkpoint whose write has not begun gives its own away."""
        self._raise_error()
        with self._changed:
            replaced, self._checkpoint = self._checkpoint, None
            if replaced is not None:
                return replaced.snapshot
            return self._free.pop() if self._free else Snapshot()

    def submit(self, checkpoint: Draft) -> None:
        """Write a checkpoint after all candidates."""
        with self._changed:
            self._checkpoint = checkpoint
            self._wake()

    def submit_candidate(self, candidate: Draft) -> None:
        """Write a candidate; it stays in memory until it is on disk. Earlier writes are completed first."""
        self.wait()
        with self._changed:
            self.candidates[candidate.name] = candidate
            self._wake()

    def wait(self) -> None:
        """Wait until everything that was submitted is on disk, or cannot be written."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or not (self._submitted or self._busy))
        self._raise_error()

    def close(self) -> None:
        """Complete all writes and end the thread. An error that no other call has raised is logged."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._free.clear()
        if self._error is not None and not self._reported:
            log.error("a checkpoint was not written: %s", self._error)

    def _wake(self) -> None:
        self._submitted = True
        self._changed.notify_all()
        if self._thread is None:
            # A daemon, so that a process whose run was not closed can end. Losing a write is the same as a kill.
            self._thread = threading.Thread(target=self._work, name="checkpoint writer", daemon=True)
            self._thread.start()

    def _raise_error(self) -> None:
        if self._error is not None:
            self._reported = True
            raise self._error

    def _work(self) -> None:
        while self._error is None:
            with self._changed:
                self._changed.wait_for(lambda: self._submitted or self._closed)
                if not self._submitted:
                    return
                self._submitted, self._busy = False, True
                checkpoint, self._checkpoint = self._checkpoint, None
            error = None
            try:
                self._write_all(checkpoint)
            except BaseException as raised:
                error = raised  # for the training's thread
            with self._changed:
                self._busy, self._error = False, error
                if checkpoint is not None:
                    self._free.append(checkpoint.snapshot)
                self._changed.notify_all()

    def _write_all(self, checkpoint: Draft | None) -> None:
        """Write the candidates first, so that a checkpoint never refers to candidates that are not on disk."""
        drafts = [*self.candidates.values(), *([checkpoint] if checkpoint is not None else [])]
        for draft in drafts:
            try:
                self._write(draft)
            except OSError as error:
                self.problem = error.strerror or str(error)
                self._warn(checkpoint, self.problem)
                return
            self.candidates.pop(draft.name, None)
        self.problem = None

    def _warn(self, checkpoint: Draft | None, why: str) -> None:
        if self.candidates:
            steps = ", ".join(str(draft.step) for draft in self.candidates.values())
            log.warning("weights of step %s not written (%s); they stay in memory", steps, why)
        if checkpoint is not None:
            log.warning("checkpoint of step %d not written (%s); earlier files are kept", checkpoint.step, why)
