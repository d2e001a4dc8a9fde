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

from components.common.errors import TrackingError
from components.common.metric_names import image_name, metric_name
from components.common.params import dotted
from components.common.tracking import answers
from components.common.tracking.answers import RefusedError, UnreachableError, is_refusal, retried
from components.common.tracking.outbox import Outbox, Point
from components.common.tracking.server import address, connect, environment, experiment_id, is_known, quoted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Param

log = logging.getLogger(__name__)

Backend = Literal["mlflow", "none"]

RUN_ID = "MLFLOW_RUN_ID"
"""Environment variable with the id of an open run. Steps log to that run instead of starting their own."""

JOINED_AT = "mobanet.joined_ms"
"""Tag of a run that a further training joined: when, milliseconds since 1970. Earlier metrics are not its own."""


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

        With `once`, a metric that this training has already logged at this step or a later one is left out as well: a
        training that resumes from a checkpoint repeats steps. Metrics of another training in the same run do not count.
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
        self._outbox = Outbox("MLflow", self._send_points, self._last_step, is_refusal, quoted)

    @functools.cached_property
    def _client(self) -> MlflowClient:
        """Created on first use, because with a database as store this opens a connection."""
        import mlflow

        return mlflow.MlflowClient()

    def params(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        flat = [Param(metric_name(key), str(value)) for key, value in dotted(values)]
        self._outbox.put("parameter", flat, self._send_params, lambda param: param.key)

    def _send_params(self, params: Sequence[Param]) -> None:
        known = self._client.get_run(self.id).data.params
        for key, value in ((param.key, param.value) for param in params if param.key in known):
            if known[key] != value:
                log.warning("MLflow keeps %s = %s from the start of the run; it is %s now", key, known[key], value)
        self._client.log_batch(self.id, params=[param for param in params if param.key not in known])

    def metrics(self, values: Mapping[str, float | None], step: int, *, once: bool = False) -> None:
        now_ms = int(time.time() * 1000)
        finite = {metric_name(key): float(v) for key, v in values.items() if v is not None and math.isfinite(v)}
        self._outbox.put_points([Point(key, value, now_ms, step, once) for key, value in finite.items()])

    def _send_points(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        self._client.log_batch(self.id, metrics=[Metric(p.metric, p.value, p.time_ms, p.step) for p in points])

    def _last_step(self, metric: str) -> int:
        history = self._client.get_metric_history(self.id, metric)
        return max((point.step for point in history if point.timestamp >= self._since_ms), default=-1)

    @functools.cached_property
    def _since_ms(self) -> int:
        """When this training began, if it joined a run with metrics of another one; 0 otherwise."""
        return int(self._client.get_run(self.id).data.tags.get(JOINED_AT, 0))

    def join(self) -> None:
        """Count only metrics from now on as those of this training."""
        self._since_ms = int(time.time() * 1000)
        self.tags({JOINED_AT: self._since_ms})

    def image(self, name: str, image_HWC: npt.NDArray[np.uint8], step: int) -> None:
        key = image_name(name)
        self._outbox.put_call(f"image {name}", lambda: self._client.log_image(self.id, image_HWC, key=key, step=step))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        if not path.is_dir():
            self._artifact(path, folder)
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            inside = file.parent.relative_to(path).as_posix()
            self._artifact(file, "/".join(part for part in (folder, inside) if part and part != ".") or None)

    def _artifact(self, path: Path, folder: str | None) -> None:
        def send() -> None:
            if not path.exists():
                raise RefusedError(f"{path} does not exist any more")
            self._client.log_artifact(self.id, str(path), folder)

        self._outbox.put_call(str(path), send)

    def tags(self, values: Mapping[str, object]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(metric_name(key), str(value)) for key, value in values.items()]
        self._outbox.put("tag", tags, lambda part: self._client.log_batch(self.id, tags=part), lambda tag: tag.key)

    def end(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Send the queue, warn about data that could not be sent, and close the run."""
        self._outbox.drain(answers.PAUSES_S)
        self.missing = tuple(self._outbox.missing())
        if self.missing:
            log.warning("MLflow run %s lacks %s", self.id, ", ".join(self.missing))
        with environment(**{RUN_ID: os.environ.get(RUN_ID)}):  # MLflow removes it
            try:
                retried(lambda: self._close(status), f"close run {self.id}")
            except Exception as error:  # the training is over and its results are written: never fail here
                why = quoted(error)
                log.warning("MLflow run %s could not be closed as %s (%s)", self.id, status, why)

    def _close(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        import mlflow

        if mlflow.active_run() is not None:
            mlflow.end_run(status)
        else:  # resumed while the store did not answer, or MLflow has forgotten it in a failed attempt
            self._client.set_terminated(self.id, status)


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
        UnreachableError: the store does not answer.
        TrackingError: MLflow is not installed, the store cannot be used, or it does not contain the run that
            `MLFLOW_RUN_ID` names.
    """
    if backend == "none":
        yield Run()
        return
    try:
        run = _start(connect(), experiment, run_id)
    except UnreachableError as error:
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
            if joined is None:  # not repeated: a lost answer would leave a second run
                place = experiment_id(client, experiment)
                started = mlflow.start_run(experiment_id=place, log_system_metrics=system_metrics)
            else:
                started = retried(
                    lambda: mlflow.start_run(joined, log_system_metrics=system_metrics), f"resume run {joined}"
                )
        except TrackingError:
            raise
        except Exception as error:
            raise TrackingError(f"cannot open a run in {address()}: {quoted(error)}") from None
    run = _MlflowRun(started.info.run_id)
    if run_id is not None and joined is None:
        run.tags({"continues": run_id})
    if joined is not None and run_id is None:
        run.join()
    return run


@contextmanager
def new_runs_tagged(tags: Mapping[str, str]) -> Iterator[None]:
    """Add tags to every run started in the block, by this process or its children; `MLFLOW_RUN_ID` is ignored.

    `mlflow.runName` sets the name of a run, `mlflow.parentRunId` its parent run. MLflow reads the variable
    `MLFLOW_RUN_CONTEXT` itself.
    """
    with environment(MLFLOW_RUN_CONTEXT=json.dumps(dict(tags)), **{RUN_ID: None}):
        yield
