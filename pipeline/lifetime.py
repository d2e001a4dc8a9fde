"""What a run of the pipeline leaves on its workspace, in MLflow and in the cluster, and what becomes of it then."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from components.common.entrypoints.kubeflow import RUN, TAG, PipelineRun, read_run, write_run
from components.common.kubernetes.launch import TRAINJOB
from components.common.tracking.store import end_runs

log = logging.getLogger(__name__)


def start(workspace: Path, run: str, sections: Mapping[str, str]) -> None:
    """Tell the tasks to come which run they belong to, and whether they are tracked.

    Args:
        workspace: folder of this run.
        run: its name in Kubeflow.
        sections: sections of params.yaml as JSON.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    tracked = json.loads(sections["runtime"])["tracking"] == "mlflow"
    write_run(workspace, PipelineRun(run, {TAG: run} if tracked else {}))


def stop(workspace: Path, state: str) -> None:
    """Delete the TrainJob, if there was one; empty the workspace; close the MLflow runs that a lost task has left open.

    A run that Kubeflow has opened itself does not have the tag, and is left to Kubeflow.

    Args:
        workspace: folder of this run.
        state: how it ended, in Kubeflow's words.

    Raises:
        TrackingError: MLflow cannot be reached.
        ClusterError: the TrainJob cannot be deleted; its pods may still write to the workspace, which is left as it is.
    """
    if (workspace / TRAINJOB).is_file():
        from components.common.kubernetes.client import Cluster

        Cluster.here().delete(json.loads((workspace / TRAINJOB).read_text())["name"])
    tags = read_run(workspace).tags
    for path in workspace.iterdir() if workspace.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != RUN:
            path.unlink()
    closed = end_runs(tags, "FINISHED" if state == "SUCCEEDED" else "FAILED") if tags else ()
    (workspace / RUN).unlink(missing_ok=True)  # last: a retry needs it
    log.info("the run of the pipeline has ended: %s; MLflow runs closed now: %s", state, ", ".join(closed) or "none")
