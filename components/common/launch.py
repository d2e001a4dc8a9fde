"""The door of a step for parameters that came as texts: in this process, or under torchrun in one process per GPU."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from components.common.files import replacing

TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node=gpu", "-m")


def launch(step: str, sections: Mapping[str, str], folder: Path, paths: Mapping[str, Path], gpus: int) -> None:
    """Run a step on every GPU that this machine has.

    Args:
        step: name of the step.
        sections: name -> JSON of the sections of params.yaml that it reads.
        folder: gets them as a file.
        paths: option of the step's door -> path.
        gpus: how many this machine has.

    Raises:
        SystemExit: torchrun has not ended with 0. Whatever the step raises in this process comes as it is.
    """
    params = folder / f"{step}.yaml"
    with replacing(params) as draft:
        draft.write_text(yaml.safe_dump({name: json.loads(text) for name, text in sections.items()}))
    if gpus <= 1:
        importlib.import_module(f"components.{step}.__main__").main(params=params, **paths)
        return
    options = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    command = [sys.executable, *TORCHRUN, f"components.{step}", "--params", str(params), *options]
    if code := subprocess.run(command, check=False).returncode:
        sys.exit(code)
