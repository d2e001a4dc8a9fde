"""MLflow runs: parameters, metrics, images and files of a step.

In: parameters, metrics per step, images, files. Out: a run in the store that `MLFLOW_TRACKING_URI` names. Without that
variable, the store is `mlflow.db` and `mlruns/` in the current folder, the default of `mlflow ui`.
MLflow is imported when a run is opened, so a machine that trains with `runtime.tracking: none` does not need it.
In a group of processes only rank 0 opens a run; the others pass the backend `none`.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from components.common.errors import TrackingError, reason
from components.common.metric_names import image_name, metric_name
from components.common.params import dotted
from components.common.tracking.outbox import Outbox, Point
from components.common.tracking.server import (
    RefusedError,
    address,
    connect,
    environment,
    experiment_id,
    is_known,
    is_refusal,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

Backend = Literal["mlflow", "none"]

RUN_ID = "MLFLOW_RUN_ID"
"""Environment variable with the id of an open run. Steps log to that run instead of starting their own."""


class Run:
    """A run that is not tracked: every method does nothing."""

    id: str | None = None
    """Id of the run in its store; None: nothing is tracked."""

    missing: tuple[str, ...] = ()
    """Known once the run is closed: descriptions of what the store did not accept."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters. Nested mappings become dotted keys. A key that the run already has keeps its value."""

    def metrics(self, values: Mapping[str, float | None], step: int, *, once: bool = False) -> None:
        """Record metrics at a step. None, NaN and infinite values are left out. MLflow gets `metric_name` of each name.

        With `once`, a metric that the run has at this step or a later one is left out as well: a training that resumes
        from a checkpoint repeats steps that it has already logged.
        """

    def image(self, name: str, image_HWC: npt.NDArray[np.uint8], step: int) -> None:
        """Record an RGB image, 0..255, at a step. MLflow shows images of one name as a slider over the steps."""

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Record a file, or all files of a folder, under `folder` in the run's artifacts."""

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags; an existing tag gets the new value."""


class _MlflowRun(Run):
    """A run in MLflow. If the store stops answering after the run was opened, data is queued and sent later."""

    id: str

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self._outbox = Outbox("MLflow", self._send_points, self._last_step, is_refusal)

    @functools.cached_property
    def _client(self) -> MlflowClient:
        """Created on first use, because with a database as store this opens a connection."""
        import mlflow

        return mlflow.MlflowClient()

    def params(self, values: Mapping[str, Any]) -> None:
        flat = {key: str(value) for key, value in dotted(values)}
        self._outbox.put_call("parameters", lambda: self._send_params(flat))

    def _send_params(self, flat: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        known = self._client.get_run(self.id).data.params
        for key in flat.keys() & known.keys():
            if known[key] != flat[key]:
                log.warning("MLflow keeps %s = %s from the start of the run; it is %s now", key, known[key], flat[key])
        new = [Param(key, value) for key, value in flat.items() if key not in known]
        self._client.log_batch(self.id, params=new)

    def metrics(self, values: Mapping[str, float | None], step: int, *, once: bool = False) -> None:
        now_ms = int(time.time() * 1000)
        finite = {metric_name(key): float(v) for key, v in values.items() if v is not None and math.isfinite(v)}
        self._outbox.put_points([Point(key, value, now_ms, step, once) for key, value in finite.items()])

    def _send_points(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        self._client.log_batch(self.id, metrics=[Metric(p.metric, p.value, p.time_ms, p.step) for p in points])

    def _last_step(self, metric: str) -> int:
        history = self._client.get_metric_history(self.id, metric)
        return max((point.step for point in history), default=-1)

    def image(self, name: str, image_HWC: npt.NDArray[np.uint8], step: int) -> None:
        key = image_name(name)
        self._outbox.put_call(f"image {name}", lambda: self._client.log_image(self.id, image_HWC, key=key, step=step))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        method = "log_artifacts" if path.is_dir() else "log_artifact"

        def send() -> None:
            if not path.exists():
                raise RefusedError(f"{path} does not exist any more")
            getattr(self._client, method)(self.id, str(path), folder)

        self._outbox.put_call(str(path), send)

    def tags(self, values: Mapping[str, object]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(key, str(value)) for key, value in values.items()]
        self._outbox.put_call("tags", lambda: self._client.log_batch(self.id, tags=tags))

    def end(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Send the queue, warn about data that could not be sent, and close the run."""
        import mlflow

        self._outbox.flush(at_once=True)
        self.missing = tuple(self._outbox.missing())
        if self.missing:
            log.warning("MLflow run %s lacks %s", self.id, ", ".join(self.missing))
        with environment(**{RUN_ID: os.environ.get(RUN_ID)}):  # MLflow removes it
            try:
                if mlflow.active_run() is not None:
                    mlflow.end_run(status)
                else:  # resumed while the store did not answer
                    self._client.set_terminated(self.id, status)
            except Exception as error:  # the training is over and its results are written: never fail here
                log.warning("MLflow run %s could not be closed as %s (%s)", self.id, status, reason(error))


@contextmanager
def open_run(backend: Backend, *, experiment: str, run_id: str | None = None, patient: bool = False) -> Iterator[Run]:
    """Open a run, and close it with the status of the block: finished, failed, or killed (Ctrl-C, `SystemExit`).

    Args:
        backend: `mlflow`, or `none` for a run that records nothing.
        experiment: experiment of a new run; created if it does not exist.
        run_id: run to resume; None: the run that `MLFLOW_RUN_ID` names, else a new one. If the store does not know the
            run (it is from another store, or deleted), a new run with the tag `continues` replaces it, with a warning.
        patient: resume `run_id` even if the store does not answer; data is queued until it does.

    Raises:
        TrackingError: MLflow is not installed, the store cannot be reached, or it does not contain the run that
            `MLFLOW_RUN_ID` names.
    """
    if backend == "none":
        yield Run()
        return
    try:
        run = _start(connect(), experiment, run_id)
    except TrackingError as error:
        if not patient or run_id is None:
            raise
        log.warning("%s. The run continues, and MLflow gets the data as soon as it answers", error)
        run = _MlflowRun(run_id)
    status: Literal["FINISHED", "FAILED", "KILLED"] = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        status = "KILLED"
        raise
    finally:
        run.end(status)


def _start(client: MlflowClient, experiment: str, run_id: str | None) -> _MlflowRun:
    """Resume or start a run. `MLFLOW_RUN_ID` stays in the environment for later steps and child processes."""
    import mlflow

    named = os.environ.get(RUN_ID)
    joined = run_id if run_id is not None else named
    if joined is not None and not is_known(client, joined):
        if run_id is None:
            raise TrackingError(
                f"run {joined} of {RUN_ID} is not in {address()}; unset {RUN_ID} or correct MLFLOW_TRACKING_URI"
            )
        log.warning("run %s is not in %s: a new run continues it", joined, address())
        joined = None
    with environment(**{RUN_ID: None}):
        system_metrics = importlib.util.find_spec("psutil") is not None
        try:
            place = None if joined else experiment_id(client, experiment)
            started = mlflow.start_run(joined, place, log_system_metrics=system_metrics)
        except Exception as error:
            raise TrackingError(f"cannot open a run in {address()}: {reason(error)}") from None
    run = _MlflowRun(started.info.run_id)
    if run_id is not None and joined is None:
        run.tags({"continues": run_id})
    return run


@contextmanager
def new_runs_tagged(tags: Mapping[str, str]) -> Iterator[None]:
    """Add tags to every run started in the block, by this process or its children; `MLFLOW_RUN_ID` is ignored.

    `mlflow.runName` sets the name of a run, `mlflow.parentRunId` its parent run. MLflow reads the variable
    `MLFLOW_RUN_CONTEXT` itself.
    """
    with environment(MLFLOW_RUN_CONTEXT=json.dumps(dict(tags)), **{RUN_ID: None}):
        yield
