"""The door of a step for parameters that came as texts: in this process, in one per GPU, or on several nodes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from components.common.entrypoints.kubeflow import COMMIT, CONTEXT, read_run
from components.common.errors import ClusterError
from components.common.files import replacing, write_json
from components.common.pool import cores

TORCHRUN = ("-m", "torch.distributed.run")

TRAINJOB = "trainjob.json"
"""File of the workspace: name of the TrainJob that was launched, which the last task of the run deletes."""


def launch(
    step: str, sections: Mapping[str, str], folder: Path, paths: Mapping[str, Path], gpus: int, nodes: int = 1
) -> None:
    """Run a step on every GPU of this machine, or of several nodes of the cluster that this machine is in.

    Args:
        step: name of the step.
        sections: name -> JSON of the sections of params.yaml that it reads.
        folder: workspace of the run; gets them as a file.
        paths: option of the step's door -> path.
        gpus: how many this machine has, or each node is to have.
        nodes: how many; more than 1: this process launches them, and follows.

    Raises:
        ClusterError: the nodes could not be had, or have failed.
        SystemExit: torchrun has not ended with 0. Whatever the step raises in this process comes as it is.
    """
    params = folder / f"{step}.yaml"
    with replacing(params) as draft:
        draft.write_text(yaml.safe_dump({name: json.loads(text) for name, text in sections.items()}))
    options = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    door = ("-m", f"components.{step}", "--params", str(params), *options)
    if nodes > 1:
        _on_nodes((sys.executable, *TORCHRUN, *door), folder, nodes, gpus)
    elif gpus > 1:
        command = [sys.executable, *TORCHRUN, "--nproc-per-node=gpu", *door]
        if code := subprocess.run(command, env=os.environ | _threads(gpus), check=False).returncode:
            sys.exit(code)
    else:
        importlib.import_module(f"components.{step}.__main__").main(params=params, **paths)


def _threads(processes: int) -> dict[str, str]:
    """Environment in which so many processes share the cores of a machine like this one."""
    return {"OMP_NUM_THREADS": str(max(1, cores() // max(1, processes)))}


def gpus_here(least: int) -> int:
    """How many GPUs this machine has.

    Raises:
        ClusterError: fewer than asked for; the step would go on for weeks on the CPU.
    """
    import torch

    count = torch.cuda.device_count()
    if count < least:
        raise ClusterError(
            f"the pod was given {least} GPUs, and torch sees {count}; compare the node's driver with the CUDA version "
            f"of the image, {torch.version.cuda}"
        )
    return count


def _on_nodes(command: tuple[str, ...], folder: Path, nodes: int, gpus: int) -> None:
    """Leave a command to Kubeflow Trainer, which tells every torchrun its node by environment variables."""
    from components.common.kubernetes.client import Cluster  # here, so that one node needs no cluster
    from components.common.kubernetes.nodes import run_on_nodes
    from components.common.kubernetes.trainjob import Work, job_name

    run = read_run(folder).name
    if not run:
        raise ClusterError(f"{folder} does not say which run of the pipeline it belongs to; the task begin writes that")
    environment = {name: os.environ[name] for name in (COMMIT, CONTEXT) if name in os.environ} | _threads(gpus)
    work = Work(run=run, command=command, environment=environment, workspace=folder, nodes=nodes, gpus=gpus)
    cluster = Cluster.here()
    write_json(folder / TRAINJOB, {"name": job_name(run)})
    run_on_nodes(cluster, work)
