"""components/common/kubernetes/trainjob.py: what the pods of a TrainJob copy from the pod that launches it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from kubeflow.trainer.constants import constants
from kubeflow_trainer_api import models

from components.common.errors import ClusterError
from components.common.kubernetes.trainjob import Work, job_name, trainjob
from pipeline.resources import GPU
from tests.kubernetes_api import CONTRACT, crd_schema, launching_pod

WORKSPACE = Path("/kfp-workspace/.artifacts")


def work(**changes) -> Work:
    usual = {
        "run": "8f14e45f-ceea-467f-9a3b-1c2d3e4f5a6b",
        "command": ("python", "-m", "torch.distributed.run", "-m", "components.train"),
        "environment": {"GIT_COMMIT": "c0ffee", "MLFLOW_RUN_CONTEXT": '{"kubeflow_run": "r"}'},
        "workspace": WORKSPACE,
        "nodes": 2,
        "gpus": 4,
    }
    return Work(**usual | changes)


@pytest.fixture
def pod():
    return launching_pod("/kfp-workspace")


def patched(job):
    (patch,) = job["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    template = replicated["template"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert replicated["name"] == container["name"] == "node"
    return template, container


@pytest.mark.skipif(not CONTRACT.is_file(), reason="the definition of TrainJob is not available")
@pytest.mark.parametrize("gpus", [0, 8])
def test_it_is_as_the_definition_of_the_cluster_says(pod, gpus):
    job = trainjob(pod, work(gpus=gpus))
    jsonschema.validate(job, crd_schema())


def test_it_goes_through_the_types_of_the_sdk_unchanged(pod):
    job = trainjob(pod, work())
    assert models.TrainerV1alpha1TrainJob.from_json(json.dumps(job)).to_dict() == job


def test_every_pod_has_the_limits_of_the_launching_one_and_its_own_gpus(pod):
    trainer = trainjob(pod, work())["spec"]["trainer"]
    amounts = {"cpu": "8", "memory": "64G", "nvidia.com/gpu": "4"}
    assert trainer["resourcesPerNode"] == {"limits": amounts, "requests": amounts}
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 4)


def test_without_gpus_every_node_is_one_process_on_cpus(pod):
    trainer = trainjob(pod, work(gpus=0))["spec"]["trainer"]
    assert trainer["numProcPerNode"] == 1 and "nvidia.com/gpu" not in trainer["resourcesPerNode"]["limits"]


def test_every_pod_has_the_image_the_workspace_shared_memory_rights_and_account_of_the_launching_one(pod):
    job = trainjob(pod, work())
    template, container = patched(job)
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert volumes[mounts["/kfp-workspace"]]["persistentVolumeClaim"] == {"claimName": "mobanet-x7k2p-kfp-workspace"}
    assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    assert "/.cache" in mounts and volumes.keys() == set(mounts.values())
    assert container["securityContext"] == {"runAsNonRoot": True, "allowPrivilegeEscalation": False}
    assert template["spec"]["securityContext"] == {"fsGroup": 1000}
    assert template["spec"]["serviceAccountName"] == "pipeline-runner"
    assert template["spec"]["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert job["spec"]["trainer"]["image"] == pod["spec"]["containers"][1]["image"]
    assert job["spec"]["activeDeadlineSeconds"] == pod["spec"]["activeDeadlineSeconds"]


def test_a_sidecar_that_the_launching_pod_does_not_get_no_pod_gets(pod):
    template, _ = patched(trainjob(pod, work()))
    assert template["metadata"]["annotations"] == {"sidecar.istio.io/inject": "false"}


def test_a_secret_stays_a_reference_and_the_token_of_the_launching_pod_stays_there(pod):
    job = trainjob(pod, work())
    env = {variable["name"]: variable for variable in job["spec"]["trainer"]["env"]}
    reference = {"name": "mobanet", "key": "AWS_SECRET_ACCESS_KEY", "optional": True}
    assert env["AWS_SECRET_ACCESS_KEY"] == {
        "name": "AWS_SECRET_ACCESS_KEY",
        "valueFrom": {"secretKeyRef": reference},
    }
    assert {name for name, variable in env.items() if "value" in variable} == {
        *("HTTPS_PROXY", "GIT_COMMIT", "MLFLOW_RUN_CONTEXT"),
    }
    assert "projected" not in json.dumps(job) and "serviceaccount" not in json.dumps(job)


def test_pods_that_authenticate_to_mlflow_as_their_service_account_get_a_token_of_their_own(pod):
    job = trainjob(pod, work(token=True))
    template, container = patched(job)
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    sources = volumes[mounts["/var/run/secrets/kubernetes.io/serviceaccount"]]["projected"]["sources"]
    assert [*sources[0], *sources[1]] == ["serviceAccountToken", "downwardAPI"]
    assert models.TrainerV1alpha1TrainJob.from_json(json.dumps(job)).to_dict() == job
    if CONTRACT.is_file():
        jsonschema.validate(job, crd_schema())


def test_a_variable_is_there_once_and_those_of_the_launching_task_are_not(pod):
    env = trainjob(pod, work())["spec"]["trainer"]["env"]
    names = [variable["name"] for variable in env]
    assert sorted(names) == ["AWS_SECRET_ACCESS_KEY", "GIT_COMMIT", "HTTPS_PROXY", "MLFLOW_RUN_CONTEXT"]
    assert {"name": "MLFLOW_RUN_CONTEXT", "value": '{"kubeflow_run": "r"}'} in env


def test_torchrun_gets_no_rendezvous_since_trainer_sets_it(pod):
    command = trainjob(pod, work())["spec"]["trainer"]["command"]
    assert command == ["python", "-m", "torch.distributed.run", "-m", "components.train"]


def test_it_belongs_to_what_the_launching_pod_belongs_to_so_nothing_stays_for_ever(pod):
    (owner,) = trainjob(pod, work())["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "mobanet-x7k2p", "uid": "u-1"}


def test_job_and_pods_carry_the_run_of_the_pipeline(pod):
    job = trainjob(pod, work(run="r-1"))
    template, _ = patched(job)
    assert job["metadata"]["labels"] == template["metadata"]["labels"] == {"kubeflow_run": "r-1"}


@pytest.mark.parametrize("run", ["r-1", "8f14e45f-ceea-467f-9a3b-1c2d3e4f5a6b", "Ünfit as a name", "x" * 300])
def test_the_name_is_a_function_of_the_run_and_leaves_room_for_those_of_pods(run):
    name = job_name(run)
    assert name == job_name(run) != job_name(run + "2")
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(f"{name}-node-0-9999-abcde") <= 63


def test_the_pod_is_that_of_any_task_not_of_a_certain_name(pod):
    main = pod["spec"]["containers"][1]
    main["name"], main["volumeMounts"][1]["mountPath"] = "user", "/kfp-workspace/.artifacts"
    assert trainjob(pod, work())["spec"]["trainer"]["image"] == main["image"]


@pytest.mark.parametrize("workspace", ["/elsewhere", "/.cache/w"])
def test_a_workspace_that_other_pods_cannot_see_is_refused(pod, workspace):
    with pytest.raises(ClusterError, match=f"^{workspace}: this folder is not on a volume claim.*ReadWriteMany"):
        trainjob(pod, work(workspace=Path(workspace)))


def test_gpus_have_one_name():
    assert GPU == constants.GPU_LABEL
