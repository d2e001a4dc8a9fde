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

FILES = {"data_path": Path.exists, "data_repo": Path.exists, "model_weights": Path.is_file}
"""Parameter that may name a file or folder of this machine -> function that tells whether it does."""

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class PipelineError(MobanetError):
    """A task of the pipeline failed; its own message is in the log above."""


def run(pipeline: Any, form: Mapping[str, Any], out: Path, containers: Containers | None = None) -> None:
    """Run a pipeline. Logs of kfp and of the tasks go to stderr.

    Args:
        pipeline: result of `graph.build`.
        form: its parameters; paths of this machine are made absolute.
        out: folder for the artifacts; each run gets a folder in it.
        containers: run the tasks in these containers; None: run them as processes.

    Raises:
        PipelineError: a task failed.
        ContainerError: containers cannot be started.
    """
    files = files_here(form)
    out.mkdir(parents=True, exist_ok=True)
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
            runner = containers.runner(out.resolve(), Path(workspace), files.values())
        local.init(runner, pipeline_root=str(out), workspace_root=workspace)
        try:
            pipeline(**{name: str(path) for name, path in files.items()})
        except RuntimeError as error:
            raise PipelineError(_sentence(COLOURS.sub("", str(error)), out)) from None


def files_here(form: Mapping[str, Any]) -> dict[str, Path]:
    """Parameters that name a file or folder of this machine -> its absolute path.

    `data_path` is skipped if `data_repo` is set, because it is then a path inside that repository.
    """
    inside = {"data_path"} if form["data_repo"] else set()
    given = {name: Path(form[name]).expanduser() for name in FILES.keys() - inside if form[name]}
    return {name: path.resolve() for name, path in given.items() if FILES[name](path)}


def _sentence(message: str, out: Path) -> str:
    """One sentence that names the failed task. kfp's message names the task first, then the groups around it."""
    failed = re.search(r"Inner task failed: '?([\w-]+)", message)
    if failed is None:
        return f"the pipeline failed ({message}); see its log above"
    return f"the step {failed[1]} failed, see its log above; the artifacts of earlier steps are in {out}"
