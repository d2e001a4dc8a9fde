"""Run the graph on this machine: every task a process, with kfp's own runner and without a container."""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from kfp import local

from components.common.errors import MobanetError

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class PipelineError(MobanetError):
    """A task of the pipeline has failed; what it had to say is above."""


def run(pipeline: Any, out: Path) -> None:
    """Run a pipeline; logs of kfp and of the tasks go to stderr.

    Args:
        pipeline: what `graph.build` made.
        out: gets a folder per run with the artifacts of every task.

    Raises:
        PipelineError: a task failed.
    """
    workspace = tempfile.mkdtemp(prefix="mobanet-workspace-")  # kfp removes it
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(out), workspace_root=workspace)
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "You may be attemping to run a task", RuntimeWarning
        )  # image without "python"
        try:
            pipeline()
        except RuntimeError as error:
            raise PipelineError(_sentence(COLOURS.sub("", str(error)), out)) from None


def _sentence(message: str, out: Path) -> str:
    """What failed, in our words: kfp names the task first, and then the groups that it stands in."""
    failed = re.search(r"Inner task failed: '?([\w-]+)", message)
    if failed is None:
        return f"the pipeline failed ({message}); its log is above"
    return f"the step {failed[1]} failed, see its log above; artifacts of the steps before it are in {out}"
