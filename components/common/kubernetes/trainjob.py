"""The pod that launches a training -> a TrainJob of Kubeflow Trainer, whose pods are copies of that pod.

Image, environment, volumes, limits and rights are said once, where the launching pod gets them, and are read from that
pod: a training on several nodes runs in what a training on one would run in. References to secrets stay references.
What belongs to the launching pod alone is left out: its token, and what Kubeflow tells it about itself.
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
"""ClusterTrainingRuntime with one replicated job and one container, both called `node`."""

OF_POD = (
    *("serviceAccountName", "imagePullSecrets", "securityContext", "terminationGracePeriodSeconds"),
    *("nodeSelector", "affinity", "tolerations"),
)
"""Fields of the pod that its copies get as they are."""

SIDECARS = "sidecar.istio.io/inject"
"""Label or annotation that the copies get as well: a sidecar does not end, and neither would its pod."""

OF_MACHINERY = ("ARGO_", "KFP_", "PET_")
"""Beginnings of variables that say which task of Kubeflow a pod is; PET_ is Trainer's own."""

OWNER = ("apiVersion", "kind", "name", "uid")


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What the pods do, and what they do not have from the launching one."""

    run: str  # of the pipeline, its name in Kubeflow
    command: Sequence[str]  # of every pod
    environment: Mapping[str, str]  # beside that of the launching pod, which it replaces; no secrets
    workspace: Path  # folder that all pods must see
    nodes: int  # pods, 2 or more
    gpus: int  # of each pod; 0: one process on its CPUs


def job_name(run: str) -> str:
    """The one name that the TrainJob of a run of the pipeline can have: 20 characters, so pods can add theirs."""
    return f"mobanet-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


def trainjob(pod: Mapping[str, Any], work: Work) -> dict[str, Any]:
    """The TrainJob, in the terms of the API.

    Args:
        pod: that launches it, as the API describes it.
        work: of its pods.

    Raises:
        ClusterError: the workspace is on no volume that other pods can have as well.
    """
    spec, meta = pod["spec"], pod["metadata"]
    container = _container_at(work.workspace, spec)
    mounts, volumes = _shared(container, spec)
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
    """What Trainer lets a job say itself; it refuses an environment among the patches."""
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
    """The container that has the workspace mounted, from a volume that others can mount; sidecars do not."""
    found = [
        (len(mount["mountPath"]), mount["name"], container)
        for container in spec["containers"]
        for mount in container.get("volumeMounts", ())
        if workspace.is_relative_to(mount["mountPath"])
    ]
    _, name, container = max(found, key=lambda one: one[0], default=(0, None, {}))
    if not any(v["name"] == name and "persistentVolumeClaim" in v for v in spec.get("volumes", ())):
        raise ClusterError(
            f"{workspace}: this folder is on no volume claim, so other pods cannot see it; a training on several nodes "
            "needs a workspace that is a claim with ReadWriteMany"
        )
    return container


def _shared(container: Mapping[str, Any], spec: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Mounts and volumes; the projected ones are the pod's own token, and its copies get their own."""
    volumes = {v["name"]: v for v in spec["volumes"] if "projected" not in v}
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] in volumes]
    names = dict.fromkeys(mount["name"] for mount in mounts)
    return mounts, [volumes[name] for name in names]


def _only(given: Mapping[str, Any] | None, *keys: str) -> dict[str, Any]:
    return {key: given[key] for key in keys if key in given} if given else {}
