"""Run the graph on this machine with kfp's own runners: every task a process, or a container."""

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
"""Parameters that may name something on this machine, and how to tell."""

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class PipelineError(MobanetError):
    """A task of the pipeline has failed; what it had to say is above."""


def run(pipeline: Any, form: Mapping[str, Any], out: Path, containers: Containers | None = None) -> None:
    """Run a pipeline; logs of kfp and of the tasks go to stderr.

    Args:
        pipeline: what `graph.build` made.
        form: its parameters; one that names a file or a folder of this machine is made absolute.
        out: gets a folder per run with the artifacts of every task.
        containers: what the tasks run in; None: they are processes.

    Raises:
        PipelineError: a task failed.
        ContainerError: there can be no containers.
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
    """Parameters that name something on this machine -> where it is; a path inside of a repository is none of them."""
    inside = {"data_path"} if form["data_repo"] else set()
    given = {name: Path(form[name]).expanduser() for name in FILES.keys() - inside if form[name]}
    return {name: path.resolve() for name, path in given.items() if FILES[name](path)}


def _sentence(message: str, out: Path) -> str:
    """What failed, in our words: kfp names the task first, and then the groups that it stands in."""
    failed = re.search(r"Inner task failed: '?([\w-]+)", message)
    if failed is None:
        return f"the pipeline failed ({message}); its log is above"
    return f"the step {failed[1]} failed, see its log above; artifacts of the steps before it are in {out}"
