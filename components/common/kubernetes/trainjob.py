"""The pod that launches a training -> a TrainJob of Kubeflow Trainer, whose pods are copies of that pod.

Image, environment, volumes, limits and security settings are defined once, for the launching pod, and copied from it.
So a training on several nodes runs in the same environment as one on a single node. References to secrets stay
references. Two things that belong only to the launching pod are left out: its token, and Kubeflow's variables about it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeflow.trainer.constants import constants
from kubeflow.trainer.options.kubernetes import RuntimePatch
from kubeflow_trainer_api import models

from components.common.entrypoints.kubeflow import TAG
from components.common.errors import ClusterError

RUNTIME = "mobanet-torch"
"""Name of the ClusterTrainingRuntime; it has one replicated job with one container, both named `node`."""

OF_POD = (
    *("serviceAccountName", "imagePullSecrets", "securityContext", "terminationGracePeriodSeconds"),
    *("nodeSelector", "affinity", "tolerations"),
)
"""Pod fields that are copied unchanged."""

SIDECARS = "sidecar.istio.io/inject"
"""Label or annotation that is copied too: with an injected sidecar, which never ends, a pod would never end."""

OF_MACHINERY = ("ARGO_", "KFP_", "PET_")
"""Prefixes of variables that identify a pod's Kubeflow task (ARGO_, KFP_) or that Trainer sets itself (PET_)."""

TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Folder in which clients look for the pod's token and namespace."""

TOKEN = {
    "name": "mlflow-token",
    "projected": {
        "sources": [
            {"serviceAccountToken": {"path": "token"}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]
    },
}
"""Volume with a token for `MLFLOW_TRACKING_AUTH: kubernetes`. The runtime gives no pod a token without it."""

OWNER = ("apiVersion", "kind", "name", "uid")


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What the pods run, and where they differ from the launching pod."""

    run: str  # name of the pipeline run in Kubeflow
    command: Sequence[str]  # command of every pod
    environment: Mapping[str, str]  # added to the launching pod's variables, overriding them; no secrets
    workspace: Path  # folder that all pods share
    nodes: int  # number of pods, 2 or more
    gpus: int  # per pod; 0: one process on the CPUs
    token: bool = False  # whether the processes need a token of the service account, for MLflow


def job_name(run: str) -> str:
    """Name of the TrainJob of a pipeline run: always the same, 20 characters, which leaves room for pod suffixes."""
    return f"mobanet-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


def trainjob(pod: Mapping[str, Any], work: Work) -> dict[str, Any]:
    """Build the TrainJob as an API object.

    Args:
        pod: the launching pod, as the API describes it.
        work: what the TrainJob's pods run.

    Raises:
        ClusterError: the workspace is not on a volume that other pods can mount.
    """
    spec, meta = pod["spec"], pod["metadata"]
    container = _container_at(work.workspace, spec)
    mounts, volumes = _shared(container, spec)
    if work.token:
        mounts.append({"name": TOKEN["name"], "mountPath": TOKEN_FOLDER, "readOnly": True})
        volumes.append(TOKEN)
    labels = {TAG: work.run}
    inside = {
        "name": constants.NODE,
        "volumeMounts": mounts,
        "securityContext": container.get("securityContext", {}),
    }
    template = {
        "metadata": {
            "labels": labels | _only(meta.get("labels"), SIDECARS),
            "annotations": _only(meta.get("annotations"), SIDECARS),
        },
        "spec": _only(spec, *OF_POD) | {"volumes": volumes, "containers": [inside]},
    }
    patch: Any = {"name": constants.NODE, "template": {"spec": {"template": template}}}
    job = {
        "apiVersion": constants.API_VERSION,
        "kind": constants.TRAINJOB_KIND,
        "metadata": {
            "name": job_name(work.run),
            "labels": labels,
            "ownerReferences": [_only(owner, *OWNER) for owner in meta.get("ownerReferences", ())],
        },
        "spec": _only(spec, "activeDeadlineSeconds")
        | {
            "runtimeRef": {"name": RUNTIME},
            "trainer": _trainer(container, work),
            "runtimePatches": [
                {
                    "manager": RuntimePatch().manager,
                    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [patch]}}},
                }
            ],
        },
    }
    checked: dict[str, Any] = models.TrainerV1alpha1TrainJob.from_dict(job).to_dict()
    return checked


def _trainer(container: Mapping[str, Any], work: Work) -> dict[str, Any]:
    """The `trainer` section of a TrainJob; Trainer accepts environment variables only here, not in the patches."""
    given = container.get("resources", {})
    gpus = {constants.GPU_LABEL: str(work.gpus)} if work.gpus else {}
    env = [
        variable
        for variable in container.get("env", ())
        if not variable["name"].startswith(OF_MACHINERY) and variable["name"] not in work.environment
    ]
    return {
        "numNodes": work.nodes,
        "numProcPerNode": max(work.gpus, 1),
        "image": container["image"],
        "command": list(work.command),
        "env": env + [{"name": name, "value": value} for name, value in work.environment.items()],
        "resourcesPerNode": {
            kind: {name: amount for name, amount in given.get(kind, {}).items() if name != constants.GPU_LABEL} | gpus
            for kind in ("limits", "requests")
        },
    }


def _container_at(workspace: Path, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The container that mounts the workspace (not a sidecar), from a volume claim that other pods can mount."""
    found = [
        (len(mount["mountPath"]), mount["name"], container)
        for container in spec["containers"]
        for mount in container.get("volumeMounts", ())
        if workspace.is_relative_to(mount["mountPath"])
    ]
    _, name, container = max(found, key=lambda one: one[0], default=(0, None, {}))
    if not any(v["name"] == name and "persistentVolumeClaim" in v for v in spec.get("volumes", ())):
        raise ClusterError(
            f"{workspace}: this folder is not on a volume claim, so other pods cannot see it; put the workspace on a "
            "claim with ReadWriteMany, or set train_nodes to 1"
        )
    return container


def _shared(container: Mapping[str, Any], spec: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Mounts and volumes without the projected ones: these hold the pod's token, and each copy gets its own."""
    volumes = {v["name"]: v for v in spec["volumes"] if "projected" not in v}
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] in volumes]
    names = dict.fromkeys(mount["name"] for mount in mounts)
    return mounts, [volumes[name] for name in names]


def _only(given: Mapping[str, Any] | None, *keys: str) -> dict[str, Any]:
    return {key: given[key] for key in keys if key in given} if given else {}
