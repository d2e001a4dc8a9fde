"""Run the graph on this machine with kfp's local runners: each task is a process or a container."""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp import local

from components.common.errors import MobanetError

if TYPE_CHECKING:
    from pipeline.containers import Containers
    from pipeline.local_files import Places

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class PipelineError(MobanetError):
    """A task of the pipeline failed; its own message is in the log above."""


def run(
    pipeline: Any, values: Mapping[str, Any], places: Places, out: Path, containers: Containers | None = None
) -> None:
    """Run a pipeline. Logs of kfp and of the tasks go to stderr.

    Args:
        pipeline: the graph, built.
        values: its parameters.
        places: files and folders of this machine that they name.
        out: folder for the artifacts; each run gets a folder in it.
        containers: run the tasks in these containers; None: run them as processes.

    Raises:
        PipelineError: a task failed.
        ContainerError: containers cannot be started.
    """
    for folder in (out, *places.written):
        folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="mobanet-workspace-", ignore_cleanup_errors=True) as workspace,
        contextlib.redirect_stdout(sys.stderr),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings(
            "ignore", "You may be attemping to run a task", RuntimeWarning
        )  # image without "python"
        runner = local.SubprocessRunner(use_venv=False)
        if containers:
            runner = containers.runner(out.resolve(), Path(workspace), places.read, places.written)
        local.init(runner, pipeline_root=str(out), workspace_root=workspace)
        try:
            pipeline(**{**values, **places.values})
        except RuntimeError as error:
            raise PipelineError(_sentence(COLOURS.sub("", str(error)), out)) from None


def _sentence(message: str, out: Path) -> str:
    """One sentence that names the failed task. kfp's message names the task first, then the groups around it."""
    failed = re.search(r"Inner task failed: '?([\w-]+)", message)
    if failed is None:
        return f"the pipeline failed ({message}); see its log above"
    return f"the step {failed[1]} failed, see its log above; the artifacts of earlier steps are in {out}"
