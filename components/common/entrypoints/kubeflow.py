"""The door for Kubeflow: what the body of every `components/STEP/component.py` needs around its step.

A task is a process of its own, in a pod or under `mobanet pipeline run`. Large data stays on the workspace, a folder
that all tasks of one run see; what goes from task to task are small files and checksums. Errors leave as through the
door for DVC: 2 after one sentence for what a user can mend.
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

from components.common.entrypoints.dvc import MENDABLE, explained
from components.common.errors import DataError
from components.common.files import write_json
from components.common.params import from_mapping

C = TypeVar("C")

IMAGE = "mobanet:latest"
"""Image of a component that is used on its own; the compiled graph names one for all of its tasks."""

RUN = "run.json"
"""File of the workspace: the `PipelineRun` that it belongs to."""

TAG = "kubeflow_run"
"""Tag of MLflow runs, and label of TrainJobs, that a run of the pipeline has started."""

COMMIT, CONTEXT = "GIT_COMMIT", "MLFLOW_RUN_CONTEXT"
"""Variables that a task sets: which code it is, and the tags of the MLflow runs that it starts."""


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """A run of the pipeline, as its tasks need to know it."""

    name: str = ""  # in Kubeflow; empty where no task has said it
    tags: dict[str, str] = field(default_factory=dict)  # of the MLflow runs of its tasks; none: nothing is tracked


def parameters(cls: type[C], name: str, text: str) -> C:
    """A section of params.yaml that came as JSON.

    Raises:
        ParamsError: a key or a value is not as `cls` says.
    """
    return from_mapping(cls, json.loads(text), name)


@contextmanager
def task(workspace: str, commit: str = "") -> Iterator[Path]:
    """The workspace, in an environment in which a step says which code it is and which run of Kubeflow it belongs to.

    Args:
        workspace: folder that all tasks of the run see.
        commit: of the code, where the image does not say it; empty: git is asked.

    Raises:
        SystemExit: with the code that the door for DVC has for an error.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    folder = Path(workspace)
    if commit and not os.environ.get(COMMIT):  # an image can be built without saying it
        os.environ[COMMIT] = commit
    if tags := read_run(folder).tags:
        os.environ[CONTEXT] = json.dumps(tags)  # MLflow gives them to a run that it starts
    try:
        yield folder
    except MENDABLE as error:
        sys.exit(explained(error))


def hand_over(folder: Path, files: Mapping[str, str]) -> Path:
    """Copy files of a folder of the workspace to where Kubeflow collects artifacts; returns the folder."""
    for name, target in files.items():
        shutil.copyfile(folder / name, target)
    return folder


def finite(values: Mapping[str, float | None]) -> dict[str, float]:
    """The numbers that Kubeflow can show: None, NaN and infinite ones are left out."""
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def write_run(workspace: Path, run: PipelineRun) -> None:
    """Say which run of the pipeline this workspace belongs to."""
    write_json(workspace / RUN, asdict(run))


def read_run(workspace: Path) -> PipelineRun:
    """The run of the pipeline that this workspace belongs to."""
    path = workspace / RUN
    return PipelineRun(**json.loads(path.read_text())) if path.is_file() else PipelineRun()


def require_version(found: str, wanted: str) -> None:
    """Check the data version.

    Raises:
        DataError: another one than `wanted` was made; with an empty one, any will do.
    """
    if wanted and found != wanted:
        raise DataError(
            f"the store has the data version {found}, but data_md5 asks for {wanted}; correct data_md5, or give the "
            "source, the split and the parameters of preprocess that made that version"
        )
