"""Support code for the Kubeflow components (`components/STEP/component.py`).

Each task is a separate process, in a pod or under `mobanet pipeline run`. Large data stays in the workspace, a folder
that all tasks of a run share. Tasks pass only small files and checksums to each other. Errors are reported as on the
command line: one sentence and an exit code for an error that a user can fix. Tracebacks are in `logs` of the workspace.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from components.common.entrypoints.dvc import report_error
from components.common.entrypoints.failures import LOG_FOLDER
from components.common.errors import DataError
from components.common.files import write_json
from components.common.params import from_mapping

C = TypeVar("C")

IMAGE = "mobanet:latest"
"""Image of a component that is used outside of the graph; the compiled graph sets one image for all tasks."""

RUN_FILE = "pipeline_run.json"
"""File of the workspace that holds its `PipelineRun`."""

TAG, IMAGE_TAG = "kubeflow_run", "image"
"""Tags of the MLflow runs that a pipeline run starts: its id, also a label of its TrainJobs, and the tasks' image."""

TASK_IMAGE = "MOBANET_IMAGE"
"""Environment variable of a task: its image."""

COMMIT, CONTEXT = "GIT_COMMIT", "MLFLOW_RUN_CONTEXT"
"""Environment variables that a task sets: the commit of the code, and the tags of the MLflow runs that it starts."""


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """A pipeline run: what its tasks know about it."""

    name: str = ""  # in Kubeflow; empty: unknown
    tags: dict[str, str] = field(default_factory=dict)  # of the MLflow runs of its tasks; empty: nothing is tracked


def parameters(cls: type[C], name: str, text: str) -> C:
    """A section of params.yaml, passed as JSON.

    Args:
        cls: the frozen dataclass of the section.
        name: the section, for messages.
        text: the JSON object.

    Raises:
        ParamsError: a key or a value does not match `cls`.
    """
    return from_mapping(cls, json.loads(text), name)


@contextmanager
def task(workspace: str, commit: str = "") -> Iterator[Path]:
    """Yield the workspace; environment variables hold the commit, the tags of new MLflow runs and the log folder.

    Args:
        workspace: folder that all tasks of the run share.
        commit: commit of the code, used if the image does not set one; empty: ask git.

    Raises:
        SystemExit: an error that a user can fix, with the exit code of the command line.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    folder = Path(workspace)
    os.environ[LOG_FOLDER] = str(folder / "logs")
    if commit and not os.environ.get(COMMIT):  # an image can be built without a commit
        os.environ[COMMIT] = commit
    if tags := read_run(folder).tags:
        if image := os.environ.get(TASK_IMAGE):
            tags = tags | {IMAGE_TAG: image}
        os.environ[CONTEXT] = json.dumps(tags)  # MLflow adds these tags to every run that it starts
    try:
        yield folder
    except (Exception, KeyboardInterrupt) as error:
        code = report_error(error)
        if code is None:
            raise
        sys.exit(code)


def hand_over(folder: Path, files: Mapping[str, str]) -> Path:
    """Copy files of a workspace folder to the paths of Kubeflow's artifacts, and return the folder.

    Args:
        folder: folder of the workspace.
        files: file name in the folder -> path to copy it to.
    """
    for name, target in files.items():
        shutil.copyfile(folder / name, target)
    return folder


def finite(values: Mapping[str, float | None]) -> dict[str, float]:
    """The numbers that Kubeflow can show, without None, NaN and infinities."""
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def write_run(workspace: Path, run: PipelineRun) -> None:
    """Record which pipeline run this workspace belongs to."""
    write_json(workspace / RUN_FILE, asdict(run))


def read_run(workspace: Path) -> PipelineRun:
    """The pipeline run that this workspace belongs to; an empty one if none is recorded."""
    path = workspace / RUN_FILE
    return PipelineRun(**json.loads(path.read_text())) if path.is_file() else PipelineRun()


def require_version(found: str, wanted: str) -> None:
    """Check the data version of a store.

    Args:
        found: data version of the store.
        wanted: expected data version; empty: accept any.

    Raises:
        DataError: the versions differ.
    """
    if wanted and found != wanted:
        raise DataError(
            f"the store has the data version {found}, but data_md5 asks for {wanted}; correct data_md5, or use the "
            "source, split and preprocess parameters that produced that version"
        )
