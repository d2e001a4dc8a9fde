"""The task train on two nodes: the pods of its TrainJob are processes here, in the environment that Trainer makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest
import yaml

from components.common.entrypoints.kubeflow import PipelineRun, write_run
from components.common.inference.modelfile import load_model
from tests.e2e.conftest import ROOT
from tests.e2e.toy_training import ToyTraining
from tests.kubernetes_api import LAUNCHER, KubernetesApi, crd_schema, kubeconfig, launching_pod, serving
from tests.ranks import free_port

pytestmark = pytest.mark.system

TASK = """
import json, sys
from types import SimpleNamespace
from components.train.component import train
given = json.loads(sys.argv[1])
names = ("weights", "training")
outputs = {name: SimpleNamespace(path=f"{given['workspace']}/out-{name}") for name in names}
validation = SimpleNamespace(log_metric=lambda name, value: print(name, value))
print(train.python_func(store=None, validation=validation, **given, **outputs))
"""


def run_pods(api: KubernetesApi, job: dict) -> None:
    """What Trainer and the nodes of a cluster do with a job."""
    name, trainer, port = job["metadata"]["name"], job["spec"]["trainer"], free_port()
    trainers = {
        "PET_NNODES": str(trainer["numNodes"]),
        "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(port),
    }
    given = {variable["name"]: variable["value"] for variable in trainer["env"] if "value" in variable}
    processes = {}
    for node in range(trainer["numNodes"]):
        pod = api.add_pod(name, node)
        processes[pod] = subprocess.Popen(
            trainer["command"],
            cwd=ROOT,
            env=os.environ | given | trainers | {"PET_NODE_RANK": str(node), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=speak, args=(api, pod, processes[pod]), daemon=True).start()
    codes = [process.wait() for process in processes.values()]
    for pod, code in zip(processes, codes, strict=True):
        api.end_pod(pod, code)
    api.end(name, "Failed" if any(codes) else "Complete")


def speak(api: KubernetesApi, pod: str, process: subprocess.Popen) -> None:
    for line in process.stdout:
        api.say(pod, line.rstrip("\n"))


@pytest.fixture
def api(tmp_path):
    api = KubernetesApi(crd_schema())
    pod = launching_pod(str(tmp_path))
    env = pod["spec"]["containers"][1]["env"]
    env[:] = [variable for variable in env if variable["name"] != "HTTPS_PROXY"]
    api.pods[LAUNCHER] = pod
    api.on_create = lambda job: run_pods(api, job)
    return api


def run_task(api, tmp_path, **changes) -> subprocess.CompletedProcess:
    params = yaml.safe_load(ToyTraining(tmp_path, changes).params.read_text())
    write_run(tmp_path, PipelineRun("r-1"))
    sections = {name: json.dumps(params[name]) for name in ("model", "train", "runtime")}
    given = {
        "nodes": 2,
        "gpus": 0,
        "pod_gpus": 0,
        "data_md5": "",
        "commit": "c0" * 20,
        "workspace": str(tmp_path),
    } | sections
    with serving(api) as address:
        known = {"KUBECONFIG": str(kubeconfig(address, tmp_path / "kubeconfig")), "KFP_POD_NAME": LAUNCHER}
        return subprocess.run(
            [sys.executable, "-c", TASK, json.dumps(given)],
            cwd=ROOT,
            env=os.environ | known,
            capture_output=True,
            text=True,
            timeout=300,
        )


def test_two_nodes_train_one_model(api, tmp_path):
    done = run_task(api, tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "2 ranks train together" in done.stderr and "selected step" in done.stderr
    assert load_model(tmp_path / "out-weights")[1].git_commit == "c0" * 20
    assert "miou_fused" in done.stdout


def test_a_training_that_fails_on_its_nodes_says_so_in_its_own_words_and_in_ours(api, tmp_path):
    done = run_task(api, tmp_path, model={"backbone": "no_such_vit"})
    assert done.returncode == 2
    assert "no_such_vit" in done.stderr
    assert "Traceback (most recent call last)" not in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("error: the TrainJob mobanet-")
