"""components/common/kubernetes/launch.py: up to one GPU in this process, several with torchrun, nodes in a TrainJob."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from components.acquire.step import SampleConfig
from components.common.entrypoints.kubeflow import PipelineRun, write_run
from components.common.errors import ClusterError
from components.common.kubernetes import launch as module
from components.common.kubernetes import nodes
from components.common.kubernetes.client import Cluster
from components.common.kubernetes.launch import TRAINJOB, gpus_here, launch
from components.common.kubernetes.trainjob import job_name
from components.common.params import read_yaml, section


def test_parameters_survive_the_way_through_a_file(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(module.importlib, "import_module", lambda name: seen.append(name) or Door(seen))
    launch("acquire", {"sample": json.dumps({"seed": 3, "side_px": 256})}, tmp_path, {"raw": tmp_path / "raw"}, 1)
    assert seen == ["components.acquire.__main__", tmp_path / "raw", SampleConfig(seed=3, side_px=256)]


class Door:
    def __init__(self, seen):
        self.seen = seen

    def main(self, params, raw):
        self.seen += [raw, section(params, "sample", SampleConfig)]


def test_a_small_number_is_still_a_number_for_yaml(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess((), 0))
    launch("train", {"train": json.dumps({"min_learning_rate": 1e-06})}, tmp_path, {}, 2)
    assert read_yaml(tmp_path / "train.yaml") == {"train": {"min_learning_rate": 1e-06}}


@pytest.mark.parametrize("code", [0, 1])
def test_several_gpus_are_left_to_torchrun_and_its_code_is_kept(tmp_path, monkeypatch, code):
    calls = []

    def call(command, env, check):
        calls.append(command[1:])
        assert env["OMP_NUM_THREADS"] == "2", "four processes share the eight cores"
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(subprocess, "run", call)
    monkeypatch.setattr(module, "cores", lambda: 8)
    try:
        launch("train", {"train": "{}"}, tmp_path, {"store": Path("s")}, 4)
    except SystemExit as stop:
        assert stop.code == code == 1
    (command,) = calls
    assert command == [
        *("-m", "torch.distributed.run", "--nproc-per-node=gpu", "-m", "components.train"),
        *("--params", str(tmp_path / "train.yaml"), "--store", "s"),
    ]


def test_several_nodes_are_left_to_the_cluster_and_the_last_task_is_told(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Cluster, "here", lambda: "here")
    monkeypatch.setattr(module, "cores", lambda: 8)
    monkeypatch.setattr(nodes, "run_on_nodes", lambda cluster, work: seen.append((cluster, work)))
    for name, value in {"GIT_COMMIT": "c0ffee", "MOBANET_LOGS": "/w/logs", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MLFLOW_RUN_CONTEXT", raising=False)
    write_run(tmp_path, PipelineRun("r-1"))
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "kubernetes-namespaced")
    launch("train", {"train": "{}"}, tmp_path, {"store": Path("s")}, gpus=4, nodes=2)
    ((cluster, work),) = seen
    assert (cluster, work.run, work.nodes, work.gpus, work.workspace) == ("here", "r-1", 2, 4, tmp_path)
    assert work.token
    assert work.environment == {"GIT_COMMIT": "c0ffee", "MOBANET_LOGS": "/w/logs", "OMP_NUM_THREADS": "2"}
    assert work.command[1:] == (
        *("-m", "torch.distributed.run", "-m", "components.train"),
        *("--params", str(tmp_path / "train.yaml"), "--store", "s"),
    )
    assert json.loads((tmp_path / TRAINJOB).read_text()) == {"name": job_name("r-1")}


def test_several_nodes_without_a_run_of_the_pipeline_are_refused(tmp_path):
    with pytest.raises(ClusterError, match="does not name its pipeline run; run the task begin first"):
        launch("train", {"train": "{}"}, tmp_path, {}, gpus=0, nodes=2)


@pytest.mark.parametrize(("asked", "there"), [(0, 0), (0, 2), (2, 2)])
def test_all_gpus_of_the_pod_are_used(monkeypatch, asked, there):
    monkeypatch.setattr("torch.cuda.device_count", lambda: there)
    assert gpus_here(asked) == there


def test_a_pod_that_was_given_gpus_does_not_train_on_its_cpu_in_silence(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ClusterError, match="has 2 GPUs, but torch sees 0"):
        gpus_here(2)
