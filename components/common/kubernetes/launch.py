"""Start a step with parameters given as JSON: in this process, in one process per GPU, or on several nodes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from components.common.entrypoints.failures import LOG_FOLDER
from components.common.entrypoints.kubeflow import COMMIT, CONTEXT, read_run
from components.common.errors import ClusterError
from components.common.files import replacing, write_json
from components.common.pool import cores
from components.common.yaml_files import dump_yaml

TORCHRUN = ("-m", "torch.distributed.run")

TRACKING_AUTH = "MLFLOW_TRACKING_AUTH"
"""Environment variable; `kubernetes...`: MLflow is called with the token of the pod's service account."""

TRAINJOB = "trainjob.json"
"""File of the workspace with the name of the launched TrainJob; the last task of the run deletes that TrainJob."""


def launch(
    step: str, sections: Mapping[str, str], folder: Path, paths: Mapping[str, Path], gpus: int, nodes: int = 1
) -> None:
    """Run a step on every GPU of this machine, or on several nodes of its cluster.

    Args:
        step: name of the step.
        sections: name -> JSON of the sections of params.yaml that the step reads.
        folder: workspace of the run; the parameters are written to `STEP.yaml` in it.
        paths: command-line option of the step -> path.
        gpus: GPUs of this machine, or of each node; 0: use the CPU.
        nodes: number of nodes; if more than 1, this process launches a TrainJob and follows it.

    Raises:
        ClusterError: the nodes could not be launched, or failed.
        SystemExit: torchrun failed; the exit code is torchrun's. An exception of a step in this process is unchanged.
    """
    params = folder / f"{step}.yaml"
    with replacing(params) as draft:
        draft.write_text(dump_yaml({name: json.loads(text) for name, text in sections.items()}))
    options = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    entry_point = ("-m", f"components.{step}", "--params", str(params), *options)
    if nodes > 1:
        _on_nodes((sys.executable, *TORCHRUN, *entry_point), folder, nodes, gpus)
    elif gpus > 1:
        command = [sys.executable, *TORCHRUN, "--nproc-per-node=gpu", *entry_point]
        if code := subprocess.run(command, env=os.environ | _threads(gpus), check=False).returncode:
            sys.exit(code)
    else:
        importlib.import_module(f"components.{step}.__main__").main(params=params, **paths)


def _threads(processes: int) -> dict[str, str]:
    """Environment variables that divide the cores of this machine among `processes`."""
    return {"OMP_NUM_THREADS": str(max(1, cores() // max(1, processes)))}


def gpus_here(least: int) -> int:
    """Number of GPUs of this machine.

    Raises:
        ClusterError: there are fewer than `least`; without this check, the step would run for weeks on the CPU.
    """
    import torch

    count = torch.cuda.device_count()
    if count < least:
        raise ClusterError(
            f"the pod has {least} GPUs, but torch sees {count}; check that the node's driver supports the image's "
            f"CUDA version, {torch.version.cuda}"
        )
    return count


def _on_nodes(command: tuple[str, ...], folder: Path, nodes: int, gpus: int) -> None:
    """Run a command with Kubeflow Trainer, which sets environment variables that tell each torchrun its node."""
    from components.common.kubernetes.client import Cluster  # imported here, so that one node needs no cluster
    from components.common.kubernetes.nodes import run_on_nodes
    from components.common.kubernetes.trainjob import Work, job_name

    run = read_run(folder).name
    if not run:
        raise ClusterError(
            f"{folder} does not name its pipeline run; run the task begin first, which writes pipeline_run.json"
        )
    environment = {name: os.environ[name] for name in (COMMIT, CONTEXT, LOG_FOLDER) if name in os.environ} | _threads(
        gpus
    )
    token = os.environ.get(TRACKING_AUTH, "").startswith("kubernetes")
    work = Work(
        run=run, command=command, environment=environment, workspace=folder, nodes=nodes, gpus=gpus, token=token
    )
    cluster = Cluster.here()
    write_json(folder / TRAINJOB, {"name": job_name(run)})
    run_on_nodes(cluster, work)
