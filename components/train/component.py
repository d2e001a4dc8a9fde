"""Kubeflow component: train on all GPUs of a pod or of several nodes.

Returns the sha256 of the selected checkpoint. After SIGTERM the exit code is 75, and the retry resumes from the
checkpoints in the workspace.
"""

from kfp import dsl

from components.common.entrypoints.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    store: dsl.Input[dsl.Dataset],
    model: str,
    train: str,
    runtime: str,
    nodes: int,
    gpus: int,
    pod_gpus: int,
    data_md5: str,
    commit: str,
    workspace: str,
    weights: dsl.Output[dsl.Model],
    training: dsl.Output[dsl.Artifact],
    validation: dsl.Output[dsl.Metrics],
) -> str:
    """Train on the store, on all GPUs of the pod or of several nodes, and select the checkpoint."""
    from components.common.entrypoints.kubeflow import finite, hand_over, task
    from components.common.files import digest
    from components.common.inference.modelfile import load_model
    from components.common.kubernetes.launch import gpus_here, launch

    with task(workspace, commit) as folder:
        sections = {"model": model, "train": train, "runtime": runtime}
        paths = {name: folder / name for name in ("store", "models", "checkpoints")}
        launch("train", sections, folder, paths, gpus if nodes > 1 else gpus_here(pod_gpus), nodes)
        models = hand_over(folder / "models", {"best.safetensors": weights.path, "run.json": training.path})
        for name, value in finite(load_model(models / "best.safetensors")[1].validation).items():
            validation.log_metric(name, value)
        return digest(models / "best.safetensors")
