"""The Kubeflow graph `mobanet-watch`: scenes and a registered model -> whether production differs from validation.

One task without a workspace: it reads scenes, and writes to MLflow and to its artifacts. It fails on drift, so that the
list of runs shows it; the report is then in MLflow.
"""

from collections.abc import Mapping
from typing import Any

from kfp import dsl, kubernetes

from components.common.tracking.provenance import git_commit
from components.watch.component import watch
from pipeline.resources import DATA, WATCH_RESOURCES, Resources, apply


def build_watch(
    text: str,
    task_image: str,
    resources: Mapping[str, Resources],
    claim: str | None = None,
    storage_class: str | None = None,
) -> Any:
    """Build the pipeline.

    Args:
        text: default of the parameter `params`.
        task_image: image of the task.
        resources: task -> resources; empty for a run on one machine.
        claim: PersistentVolumeClaim with the user's files, which the task sees in `DATA`; None: no claim.
        storage_class: not used, because the graph has no workspace.
    """

    @dsl.pipeline(name="mobanet-watch", display_name="MoBaNet: drift of production")
    def mobanet_watch(
        model: str = "models:/mobanet@champion",
        image: str = "",
        dsm: str = "",
        crs: str = "",
        experiment: str = "mobanet",
        gpus: int = 0,
        memory: str = WATCH_RESOURCES["watch"].memory,
        params: str = text,
        commit: str = git_commit(),
    ) -> None:
        """Compare scenes with the validation tiles of a model; the run fails on drift.

        Args:
            model: models:/NAME@ALIAS, models:/NAME/VERSION or a package folder.
            image: A folder or s3://BUCKET/PREFIX, each raster a scene; a file or glob; or JSON with the scenes.
            dsm: Heights in the same way, by the names of the images, or one file for all; empty: no heights.
            crs: Reference system of files that state none, for example EPSG:32633; empty: as the files state.
            experiment: Experiment of the MLflow run.
            gpus: GPUs of the task, 0 or 1.
            memory: Memory of the task, a Kubernetes quantity, for example 16G.
            params: The section watch of params.yaml.
            commit: Git commit of the code.
        """
        form = {"model": model, "image": image, "dsm": dsm, "crs": crs, "experiment": experiment, "params": params}
        watched = watch(**form, commit=commit, run=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        if claim is not None:
            kubernetes.mount_pvc(watched, claim, DATA)
        if given := resources.get("watch"):
            apply(watched, given, task_image, gpus, memory)

    return mobanet_watch
