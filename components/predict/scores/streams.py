"""Copies, computation and the use of results overlap on a GPU; on a CPU everything here does nothing.

Three streams run at the same time: inputs are copied on one, the network computes on a second, and the caller uses
finished results on its own.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, overload

import numpy.typing as npt
import torch
from torch import Tensor

from components.predict.scores.meter import Meter
from components.predict.scores.window_batches import GroupInputs

RUN_AHEAD = 2
"""Batches that the host may have launched and the device has not finished."""


class Streams:
    """The streams of a device, and the time that it waits between two batches."""

    def __init__(self, device: torch.device, meter: Meter) -> None:
        """Create the streams; `meter` counts the time that the device waits."""
        self._device, self._meter = device, meter
        self._gpu = device.type == "cuda"
        if self._gpu:
            self._copy, self._compute = torch.cuda.Stream(device), torch.cuda.Stream(device)
            self._running: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()
            self._last_end: torch.cuda.Event | None = None
            self._compute.wait_stream(torch.cuda.current_stream(device))  # the network's weights are copied there

    def waiting(self) -> AbstractContextManager[object]:
        """For the time in which the host waits for inputs. A GPU's own clock counts instead, because it still works."""
        return nullcontext() if self._gpu else self._meter.waiting()

    @contextmanager
    def computing(self, host: Sequence[GroupInputs]) -> Iterator[Sequence[GroupInputs]]:
        """Copies of the inputs of groups on the device; the block computes on the stream for computation."""
        if not self._gpu:
            yield host
            return
        if len(self._running) == RUN_AHEAD:
            self._settle()
        with torch.cuda.stream(self._copy):
            inputs = [(self._sent(image), self._sent(dsm), self._sent(sensors)) for image, dsm, sensors in host]
        self._compute.wait_stream(self._copy)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.stream(self._compute):
            begin.record(self._compute)
            for tensor in itertools.chain.from_iterable(inputs):
                if tensor is not None:
                    tensor.record_stream(self._compute)
            yield inputs
            end.record(self._compute)
        self._running.append((begin, end))

    def copied(self, array: npt.NDArray[Any]) -> Tensor:
        """Copy of an array of any shape on the device, made on the current stream, without waiting for the device."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self._device, non_blocking=True) if self._gpu else tensor

    def mark(self) -> torch.cuda.Event | None:
        """A mark after everything launched so far; None on a CPU."""
        return self._compute.record_event() if self._gpu else None

    def receive(self, mark: torch.cuda.Event | None, results: Iterable[Tensor]) -> None:
        """Let the caller's stream wait for a mark, and keep the memory of results of any shape until it used them."""
        if mark is None:
            return
        caller = torch.cuda.current_stream(self._device)
        caller.wait_event(mark)
        for tensor in results:
            tensor.record_stream(caller)

    @overload
    def _sent(self, tensor: Tensor) -> Tensor: ...

    @overload
    def _sent(self, tensor: Tensor | None) -> Tensor | None: ...

    def _sent(self, tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(self._device, non_blocking=True)

    def _settle(self) -> None:
        """Wait for the oldest batch, and count the time between the batch before it and its begin."""
        begin, end = self._running.popleft()
        end.synchronize()
        if self._last_end is not None:
            self._meter.waited(max(0.0, self._last_end.elapsed_time(begin) / 1000))
        self._last_end = end
