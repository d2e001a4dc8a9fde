"""What every task gets on a cluster, as a table; docs/kubeflow.md says how to choose."""

from __future__ import annotations

from dataclasses import dataclass

from kfp import dsl, kubernetes

GPU = "nvidia.com/gpu"
WORKSPACE_SIZE = "100Gi"
"""Raw tiles (Potsdam 14 GB unpacked), store and checkpoints, twice for drafts."""

WORKSPACE_ACCESS = "ReadWriteMany"
"""Tasks land on any node. Kubeflow takes no workspace that does not say this, unless its API server has a default."""

DATA = "/data"
"""Where acquire sees the volume with the user's files."""

SECRET = "mobanet"
"""Secret of the namespace, with addresses and keys; none of them is written into the graph."""

ENVIRONMENT = {
    "MLFLOW_TRACKING_URI": False,
    "MLFLOW_TRACKING_USERNAME": True,
    "MLFLOW_TRACKING_PASSWORD": True,
    "MLFLOW_S3_ENDPOINT_URL": True,
    "AWS_ENDPOINT_URL": True,
    "AWS_ACCESS_KEY_ID": True,
    "AWS_SECRET_ACCESS_KEY": True,
}
"""Key of the secret, and variable of every task -> whether it may be missing."""

DIGEST = "@sha256:"
"""What an image has in its name that cannot change; the key of Kubeflow's cache holds the name alone."""

HOUR_S, DAY_S = 3600, 24 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """Of one task; requests and limits are the same, so that a pod gets what it was placed for."""

    cpu: str
    memory: str  # unless a parameter of the pipeline says it
    gpus: str | None = None  # parameter of the pipeline that says how many; None: never any
    shm: str | None = None  # /dev/shm for loader processes and NCCL; None: the runtime's 64 MB
    timeout_s: int
    retries: int = 1
    backoff_s: int = 60  # before the first retry, doubled for every further one
    cached: bool = False  # only where all that a task makes is in its artifacts: the workspace is another in every run


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
    "register": Resources(cpu="1", memory="4G", timeout_s=HOUR_S, retries=3),
    "promote": Resources(cpu="1", memory="4G", timeout_s=HOUR_S, retries=3),
    "finish": Resources(cpu="1", memory="2G", timeout_s=HOUR_S, retries=3),
}
"""Task -> what it gets."""


def apply(task: dsl.PipelineTask, given: Resources, image: str, gpus: object = None, memory: object = None) -> None:
    """Write resources into a task.

    Args:
        task: the task.
        given: its line of the table.
        image: what the task runs in.
        gpus: how many, a parameter; for a task that can use any.
        memory: a parameter; None: as the table says.
    """
    task.set_container_image(image)
    task.set_cpu_request(given.cpu).set_cpu_limit(given.cpu)
    task.set_env_variable("OMP_NUM_THREADS", given.cpu)  # torch would start a thread for every core of the node
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
