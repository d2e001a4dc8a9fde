"""Start and end of a pipeline run: set up its workspace, and clean up the workspace, MLflow and the cluster."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from components.common.entrypoints.kubeflow import RUN_FILE, TAG, PipelineRun, read_run, write_run
from components.common.kubernetes.launch import TRAINJOB
from components.common.tracking.server import end_runs

log = logging.getLogger(__name__)


def start(workspace: Path, run: str, sections: Mapping[str, str]) -> None:
    """Write to the workspace which run later tasks belong to, and whether they are tracked.

    Args:
        workspace: workspace of the run; created if it does not exist.
        run: name of the run in Kubeflow.
        sections: sections of params.yaml as JSON.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    tracked = json.loads(sections["runtime"])["tracking"] == "mlflow"
    write_run(workspace, PipelineRun(run, {TAG: run} if tracked else {}))


def stop(workspace: Path, state: str) -> None:
    """Delete the TrainJob if there is one, empty the workspace, and close MLflow runs that lost tasks left open.

    MLflow runs that Kubeflow opened itself do not have the tag, so Kubeflow closes them.

    Args:
        workspace: workspace of the run.
        state: final state of the run, as Kubeflow names it.

    Raises:
        TrackingError: MLflow cannot be reached.
        ClusterError: the TrainJob cannot be deleted. The workspace is not emptied, as its pods may still write to it.
    """
    if (workspace / TRAINJOB).is_file():
        from components.common.kubernetes.client import Cluster

        Cluster.here().delete(json.loads((workspace / TRAINJOB).read_text())["name"])
    tags = read_run(workspace).tags
    for path in workspace.iterdir() if workspace.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != RUN_FILE:
            path.unlink()
    closed = end_runs(tags, "FINISHED" if state == "SUCCEEDED" else "FAILED") if tags else ()
    (workspace / RUN_FILE).unlink(missing_ok=True)  # last: a retry needs it
    log.info("the pipeline run ended: %s; MLflow runs closed now: %s", state, ", ".join(closed) or "none")
