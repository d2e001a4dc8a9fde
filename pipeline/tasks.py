"""The two tasks of the graph that are not steps: one opens a pipeline run, the other closes it."""

from typing import NamedTuple

from kfp import dsl

from components.common.entrypoints.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def begin(
    data_source: str,
    data_dataset: str,
    data_split: str,
    data_path: str,
    data_repo: str,
    data_rev: str,
    model_backbone: str,
    model_weights: str,
    train_steps: int,
    train_batch_size: int,
    train_seed: int,
    train_nodes: int,
    train_gpus: int,
    train_memory: str,
    evaluate_memory: str,
    register_promote: bool,
    params: str,
    run: str,
    workspace: str,
) -> NamedTuple(  # type: ignore[valid-type]
    "Sections",
    [
        ("data", str),
        ("sample", str),
        ("check", str),
        ("preprocess", str),
        ("model", str),
        ("train", str),
        ("runtime", str),
        ("evaluate", str),
        ("export", str),
        ("register", str),
        ("trust", str),
        ("predict", str),
        ("serve", str),
        ("watch", str),
        ("pod_gpus", int),
    ],
):
    """Merge the form with the rest of params.yaml, and check every key before anything is computed."""
    form = locals()
    from collections import namedtuple

    from components.common.entrypoints.kubeflow import task
    from pipeline.form import checked
    from pipeline.lifetime import start

    with task(workspace) as folder:
        outputs = checked(form)
        start(folder, run, outputs)
        return namedtuple("Sections", outputs)(**outputs)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finish(status: dsl.PipelineTaskFinalStatus, workspace: str) -> None:
    """Delete the TrainJob of the run, close MLflow runs whose task was lost, and empty the workspace."""
    from components.common.entrypoints.kubeflow import task
    from pipeline.lifetime import stop

    with task(workspace) as folder:
        stop(folder, status.state)
