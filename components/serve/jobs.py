"""Work of requests: a pool of threads, the current model for each piece of work, and an end when nobody waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from components.common.predictors.predictor import Maps, Predictor
from components.serve.following import ModelSource
from components.serve.served import Identity, Served

T = TypeVar("T")


class Abandoned(Exception):
    """Nobody waits for the result any more."""


class Stoppable:
    """A predictor that raises `Abandoned` at the next batch once its event is set."""

    def __init__(self, predictor: Predictor, stop: threading.Event) -> None:
        """Wrap an open predictor."""
        self._predictor, self._stop = predictor, stop
        self.facts, self.identity, self.device = predictor.facts, predictor.identity, predictor.device
        self.window_px, self.patch_size = predictor.window_px, predictor.patch_size
        self.fixed_window, self.has_gates = predictor.fixed_window, predictor.has_gates
        self.by_condition, self.precision = predictor.by_condition, predictor.precision

    def __call__(self, image_BCHW: Tensor | None, dsm_B1HW: Tensor | None) -> Maps:
        """Logits of a batch of windows."""
        if self._stop.is_set():
            raise Abandoned
        return self._predictor(image_BCHW, dsm_B1HW)


class Jobs:
    """Runs the work of requests, as many at the same time as threads."""

    def __init__(self, source: ModelSource, concurrency: int) -> None:
        """Start without threads; they are made on demand."""
        self.source = source
        self._pool = ThreadPoolExecutor(concurrency, "request", initializer=torch.set_grad_enabled, initargs=(False,))

    async def run(self, work: Callable[[Served, Predictor], T]) -> tuple[T, Identity]:
        """Do work with the current model in a thread.

        If the task is cancelled, the work does not start, or stops at the next batch of windows.

        Returns:
            The result, and the model that gave it.
        """
        stop = threading.Event()

        def job() -> tuple[T, Identity]:
            with self.source.lease() as served:
                return work(served, Stoppable(served.predictor, stop)), served.identity

        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, job)
        except asyncio.CancelledError:
            stop.set()
            raise

    def close(self) -> None:
        """Wait for running work, and close the model."""
        self._pool.shutdown(cancel_futures=True)
        self.source.close()
