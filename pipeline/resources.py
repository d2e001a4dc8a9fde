"""Resources of every task on a cluster, as a table; docs/kubeflow.md explains how to choose them."""

from __future__ import annotations

from dataclasses import dataclass

from kfp import dsl, kubernetes

from components.common.entrypoints.kubeflow import TASK_IMAGE

GPU = "nvidia.com/gpu"
WORKSPACE_SIZE = "100Gi"
"""Size of the workspace: raw tiles (Potsdam: 14 GB unpacked), store and checkpoints, twice because of drafts."""

PREDICTION_WORKSPACE_SIZE = "50Gi"
"""Size of the workspace of the prediction graph: parts and maps; 24,000 x 24,000 px are up to 0.6 GB per layer."""

WORKSPACE_ACCESS = "ReadWriteMany"
"""Access mode of the workspace: tasks run on any node. Kubeflow requires it, unless its API server has a default."""

DATA = "/data"
"""Path at which the tasks that read the user's files see their volume."""

SECRET = "mobanet"
"""Secret of the namespace that holds addresses and keys; the graph contains none of them."""

SIGNING_SECRET = "mobanet-signing"
"""Secret with the private key that signs packages, which only the task `export` sees; without it, none is signed."""

ENVIRONMENT = {
    "MLFLOW_TRACKING_URI": False,
    "MLFLOW_TRACKING_USERNAME": True,
    "MLFLOW_TRACKING_PASSWORD": True,
    "MLFLOW_TRACKING_AUTH": True,
    "MLFLOW_WORKSPACE": True,
    "MLFLOW_S3_ENDPOINT_URL": True,
    "AWS_ENDPOINT_URL": True,
    "AWS_ACCESS_KEY_ID": True,
    "AWS_SECRET_ACCESS_KEY": True,
}
"""Key of the secret, which is also a variable of every task -> whether it is optional."""

DIGEST = "@sha256:"
"""Mark of an image name that always means the same image; Kubeflow's cache key contains only the name."""

HOUR_S, DAY_S = 3600, 24 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """Resources of one task. Requests equal limits, so that a pod gets what it was scheduled for."""

    cpu: str  # Kubernetes quantity
    memory: str  # Kubernetes quantity; a parameter of the pipeline can override it
    gpus: str | None = None  # parameter of the pipeline that sets the number of GPUs; None: no GPUs
    shm: str | None = None  # size of /dev/shm, for loader processes and NCCL; None: the default, 64 MB
    timeout_s: int  # time limit of the task, seconds
    retries: int = 1
    backoff_s: int = 60  # pause before the first retry, seconds; doubled for each further one
    cached: bool = False  # only for tasks whose results are all artifacts, because each run has a new workspace


RESOURCES = {
    "begin": Resources(cpu="1", memory="2G", timeout_s=HOUR_S),
    "acquire": Resources(cpu="2", memory="4G", timeout_s=DAY_S),
    "check": Resources(cpu="4", memory="8G", timeout_s=12 * HOUR_S),
    "preprocess-shard": Resources(cpu="4", memory="8G", timeout_s=12 * HOUR_S),
    "preprocess": Resources(cpu="1", memory="4G", timeout_s=HOUR_S),
    "train": Resources(
        cpu="8", memory="64G", gpus="train_gpus", shm="16Gi", timeout_s=7 * DAY_S, retries=5, cached=True
    ),
    "evaluate": Resources(cpu="4", memory="32G", gpus="evaluate_gpus", shm="4Gi", timeout_s=DAY_S, cached=True),
    "export": Resources(cpu="4", memory="16G", timeout_s=2 * HOUR_S, cached=True),
    "predict": Resources(cpu="4", memory="16G", gpus="predict_gpus", shm="1Gi", timeout_s=DAY_S),
    "register": Resources(cpu="1", memory="4G", timeout_s=HOUR_S, retries=3),
    "promote": Resources(cpu="1", memory="4G", timeout_s=HOUR_S, retries=3),
    "finish": Resources(cpu="1", memory="2G", timeout_s=HOUR_S, retries=3),
}
"""Task of the training graph -> its resources."""

PREDICTION_RESOURCES = {
    "plan": Resources(cpu="1", memory="4G", timeout_s=HOUR_S),
    "predict-part": Resources(cpu="4", memory="16G", gpus="gpus", shm="1Gi", timeout_s=DAY_S, retries=5),
    "gather": Resources(cpu="1", memory="2G", timeout_s=HOUR_S),
    "publish": Resources(cpu="2", memory="8G", timeout_s=12 * HOUR_S, retries=5),
    "finish": Resources(cpu="1", memory="2G", timeout_s=HOUR_S, retries=3),
}
"""Task of the prediction graph -> its resources."""

WATCH_RESOURCES = {
    "watch": Resources(cpu="4", memory="16G", gpus="gpus", timeout_s=6 * HOUR_S, retries=0),
}
"""Task of the graph `watch` -> its resources; no retry, because drift stays."""


def apply(task: dsl.PipelineTask, given: Resources, image: str, gpus: object = None, memory: object = None) -> None:
    """Set image, resources, retries, caching and secrets of a task.

    Args:
        task: the task.
        given: its row of the table.
        image: image of the task.
        gpus: number of GPUs, a parameter of the pipeline; used only if `given.gpus` is set.
        memory: memory, a parameter of the pipeline; None: the value of the table.
    """
    task.set_container_image(image)
    task.set_env_variable(TASK_IMAGE, image)
    task.set_cpu_request(given.cpu).set_cpu_limit(given.cpu)
    task.set_env_variable("OMP_NUM_THREADS", given.cpu)  # otherwise torch starts one thread per core of the node
    task.set_memory_request(memory or given.memory).set_memory_limit(memory or given.memory)
    task.set_retry(given.retries, f"{given.backoff_s}s", 2.0, "3600s")
    task.set_caching_options(given.cached and DIGEST in image)
    if given.gpus is not None:
        task.set_accelerator_type(GPU).set_accelerator_limit(gpus)
    if given.shm is not None:
        kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory", size_limit=given.shm)
    for key, optional in ENVIRONMENT.items():
        kubernetes.use_secret_as_env(task, SECRET, {key: key}, optional=optional)
    kubernetes.set_timeout(task, given.timeout_s)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.set_security_context(task, run_as_non_root=True)
