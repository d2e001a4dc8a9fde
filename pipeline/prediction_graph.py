"""The Kubeflow graph `mobanet-predict`: rasters and a registered model -> maps on S3 or in a folder.

Scenes and parts are one flat list of tasks, not a loop in a loop, because kfp's local runner loses outputs of nested
loops. No task is cached: their results are on the workspace, and every run has its own.
"""

from collections.abc import Mapping
from typing import Any

from kfp import dsl, kubernetes

from components.common.tracking.provenance import git_commit
from components.predict.component import gather, plan, predict_part, publish
from pipeline.resources import (
    DATA,
    PREDICTION_RESOURCES,
    PREDICTION_WORKSPACE_SIZE,
    WORKSPACE_ACCESS,
    Resources,
    apply,
)
from pipeline.tasks import finish

WORKSPACE = dsl.WORKSPACE_PATH_PLACEHOLDER

MOST_PODS = 8
"""Pods of one kind that run at the same time on a cluster."""


def build_prediction(
    text: str,
    trusted: str,
    task_image: str,
    resources: Mapping[str, Resources],
    claim: str | None = None,
    storage_class: str | None = None,
) -> Any:
    """Build the pipeline.

    Args:
        text: default of the parameter `params`.
        trusted: default of the parameter `trust`.
        task_image: image of every task.
        resources: task -> resources; empty for a run on one machine, which then runs one task at a time.
        claim: PersistentVolumeClaim with the user's files, which the tasks see in `DATA`; None: no claim.
        storage_class: storage class of the workspace's volume; None: the cluster's default.
    """
    volume = {"accessModes": [WORKSPACE_ACCESS]} | ({"storageClassName": storage_class} if storage_class else {})
    workspace = dsl.WorkspaceConfig(PREDICTION_WORKSPACE_SIZE, dsl.KubernetesWorkspaceConfig(volume))
    at_once = MOST_PODS if resources else 1

    @dsl.pipeline(
        name="mobanet-predict",
        display_name="MoBaNet: rasters to maps",
        pipeline_config=dsl.PipelineConfig(workspace=workspace),
    )
    def mobanet_predict(
        model: str = "models:/mobanet@champion",
        image: str = "",
        dsm: str = "",
        output: str = "",
        parts: int = 1,
        extras: str = "confidence sensors",
        allow: str = "",
        acquired: str = "",
        gpus: int = 0,
        memory: str = PREDICTION_RESOURCES["predict-part"].memory,
        params: str = text,
        trust: str = trusted,
        commit: str = git_commit(),
    ) -> None:
        """Map scenes of any size with one model, each in parts that run at the same time.

        Args:
            model: models:/NAME@ALIAS or models:/NAME/VERSION, a package folder, .safetensors or .onnx, also on S3.
            image: A folder or s3://BUCKET/PREFIX, each raster a scene; a file or glob; or JSON with the scenes.
            dsm: Heights in the same way, by the names of the images, or one file for all; empty: no heights.
            output: Folder or s3://BUCKET/PREFIX that receives a folder per scene.
            parts: Number of tasks that share a scene, 1 or more.
            extras: Further files of each scene, of confidence, entropy, probabilities, gates, sensors, polygons.
            allow: Reasons of rejection that you overrule, separated by blanks.
            acquired: Date or time of the images for the STAC items, ISO 8601; empty: as the files state, else now.
            gpus: GPUs of each task that predicts, 0 or 1.
            memory: Memory of each task that predicts, a Kubernetes quantity, for example 32G.
            params: The section predict of params.yaml.
            trust: The section trust of params.yaml, with the text of the public key.
            commit: Git commit of the code.
        """
        closing = finish(workspace=WORKSPACE)
        place = {"commit": commit, "workspace": WORKSPACE}
        planned = plan(
            model=model,
            image=image,
            dsm=dsm,
            output=output,
            parts=parts,
            extras=extras,
            allow=allow,
            acquired=acquired,
            params=params,
            trust=trust,
            **place,
        )
        parts_of_scenes = planned.output  # outside of the group: see graph.py
        with dsl.ExitHandler(closing, name="run"):
            with dsl.ParallelFor(parts_of_scenes, name="parts", parallelism=at_once) as part:
                mapped = predict_part(part=part, **place)
            gathered = gather(parts=dsl.Collected(mapped.output), **place)
            with dsl.ParallelFor(gathered.output, name="scenes", parallelism=at_once) as scene:
                published = publish(scene=scene, **place)
        reading = (planned, mapped, published)
        if claim is not None:
            for task in reading:
                kubernetes.mount_pvc(task, claim, DATA)
        tasks = {
            "plan": planned,
            "predict-part": mapped,
            "gather": gathered,
            "publish": published,
            "finish": closing,
        }
        for name, task in tasks.items():
            if given := resources.get(name):
                apply(task, given, task_image, *((gpus, memory) if name == "predict-part" else ()))

    return mobanet_predict
