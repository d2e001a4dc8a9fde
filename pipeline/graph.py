"""The Kubeflow graph: the stages of dvc.yaml as tasks, between one that checks parameters and one that cleans up.

A task whose product stays on the workspace is never cached, because every run has its own workspace. The other tasks
are cached. They get the checksums of their inputs as parameters, because Kubeflow's cache key contains parameters but
not the content of artifacts.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp import compiler, dsl, kubernetes

from components.acquire.component import acquire
from components.check.component import check
from components.common.tracking.provenance import git_commit
from components.common.trust.keys import VARIABLE
from components.evaluate.component import evaluate
from components.export.component import export
from components.predict.component import predict
from components.preprocess.component import preprocess, preprocess_shard
from components.register.component import register
from components.train.component import train
from pipeline.form import Defaults
from pipeline.resources import (
    DATA,
    RESOURCES,
    SIGNING_SECRET,
    WORKSPACE_ACCESS,
    WORKSPACE_SIZE,
    Resources,
    apply,
)
from pipeline.tasks import begin, finish

WORKSPACE = dsl.WORKSPACE_PATH_PLACEHOLDER


def build(
    defaults: Defaults,
    image: str,
    resources: Mapping[str, Resources],
    claim: str | None = None,
    storage_class: str | None = None,
) -> Any:
    """Build the pipeline.

    Args:
        defaults: default values of its parameters.
        image: image of every task, best with its digest: only then are tasks cached.
        resources: task -> resources; a task without an entry gets none, as for a run on one machine.
        claim: PersistentVolumeClaim with the user's files, which acquire sees in `DATA`; None: no claim.
        storage_class: storage class of the workspace's volume; None: the cluster's default.
    """
    form = defaults.form
    volume = {"accessModes": [WORKSPACE_ACCESS]} | ({"storageClassName": storage_class} if storage_class else {})
    workspace = dsl.WorkspaceConfig(WORKSPACE_SIZE, dsl.KubernetesWorkspaceConfig(volume))

    @dsl.pipeline(
        name="mobanet",
        display_name="MoBaNet: raw tiles to registered model",
        pipeline_config=dsl.PipelineConfig(workspace=workspace),
    )
    def mobanet(
        data_source: str = form["data_source"],
        data_dataset: str = form["data_dataset"],
        data_split: str = form["data_split"],
        data_path: str = form["data_path"],
        data_repo: str = form["data_repo"],
        data_rev: str = form["data_rev"],
        data_md5: str = "",
        model_backbone: str = form["model_backbone"],
        model_weights: str = form["model_weights"],
        train_steps: int = form["train_steps"],
        train_batch_size: int = form["train_batch_size"],
        train_seed: int = form["train_seed"],
        preprocess_shards: int = 4,
        train_nodes: int = 1,
        train_gpus: int = 0,
        train_memory: str = RESOURCES["train"].memory,
        evaluate_gpus: int = 0,
        evaluate_memory: str = RESOURCES["evaluate"].memory,
        predict_gpus: int = 0,
        register_promote: bool = form["register_promote"],
        params: str = defaults.text,
        commit: str = git_commit(),
    ) -> None:
        """Train, evaluate and promote a segmentation model that fuses aerial images with heights.

        Args:
            data_source: sample: a generated city; isprs: the files as downloaded; folder: your own files.
            data_dataset: A folder of datasets/ in the image, for example potsdam; sample for the sample.
            data_split: A split of that data set.
            data_path: Location of the files: a folder that the pod sees, or s3://bucket/prefix; empty for the sample.
            data_repo: URL of the DVC repository that contains data_path; empty: none.
            data_rev: Git commit, tag or branch of that repository; empty: the newest.
            data_md5: Data version that preprocess must produce; empty: any.
            model_backbone: A name from `mobanet model list`.
            model_weights: Weights of the backbone: none, hub, a file, or s3://bucket/key.
            train_steps: Optimiser steps, 1 or more.
            train_batch_size: Crops per step over all GPUs, 2 or more and a multiple of train_nodes * train_gpus.
            train_seed: Seed of weights, crops, flips, masks and dropout, 0 or more.
            preprocess_shards: Number of parallel preprocess tasks, 1 or more.
            train_nodes: Pods that train together; more than 1 needs Kubeflow Trainer.
            train_gpus: GPUs per training pod; 0: train on CPUs.
            train_memory: Memory per training pod, a Kubernetes quantity, for example 64G.
            evaluate_gpus: GPUs of the evaluate pod, 0 or 1.
            evaluate_memory: Memory of the evaluate pod, a Kubernetes quantity, for example 32G.
            predict_gpus: GPUs of the predict pod, 0 or 1.
            register_promote: Whether a version that passes every gate becomes the champion.
            params: All keys of params.yaml that are not in this form.
            commit: Git commit of the code and of these defaults.
        """
        closing = finish(workspace=WORKSPACE)
        place = {"commit": commit, "workspace": WORKSPACE}
        read = begin(
            data_source=data_source,
            data_dataset=data_dataset,
            data_split=data_split,
            data_path=data_path,
            data_repo=data_repo,
            data_rev=data_rev,
            model_backbone=model_backbone,
            model_weights=model_weights,
            train_steps=train_steps,
            train_batch_size=train_batch_size,
            train_seed=train_seed,
            train_nodes=train_nodes,
            train_gpus=train_gpus,
            train_memory=train_memory,
            evaluate_memory=evaluate_memory,
            register_promote=register_promote,
            params=params,
            run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            workspace=WORKSPACE,
        )
        # read outside of the group: inside a loop, kfp's local runner loses outputs of neighbouring tasks
        sections = read.outputs
        with dsl.ExitHandler(closing, name="run"):
            raw = acquire(data=sections["data"], sample=sections["sample"], **place)
            tiles = {name: sections[name] for name in ("data", "check", "preprocess")}
            checked = check(raw=raw.outputs["raw"], shards=preprocess_shards, **tiles, **place)
            with dsl.ParallelFor(checked.outputs["Output"], name="shards") as some:
                sharded = preprocess_shard(shard=some, **tiles, **place)
            stored = preprocess(
                raw=raw.outputs["raw"], shards=dsl.Collected(sharded.output), data_md5=data_md5, **tiles, **place
            )
            store = {"store": stored.outputs["store"], "data_md5": stored.outputs["Output"]}
            parts = {name: sections[name] for name in ("model", "train", "runtime")}
            trained = train(
                **parts, nodes=train_nodes, gpus=train_gpus, pod_gpus=sections["pod_gpus"], **store, **place
            )
            model = {"weights": trained.outputs["weights"], "model_sha256": trained.outputs["Output"]}
            scored = evaluate(evaluate=sections["evaluate"], **store, **model, **place)
            scores = {"evaluation": scored.outputs["evaluation"]}
            packed = export(
                export=sections["export"],
                evaluation_sha256=scored.outputs["Output"],
                **scores,
                **store,
                **model,
                **place,
            )
            mapped = predict(
                raw=raw.outputs["raw"],
                package=packed.outputs["package"],
                data=sections["data"],
                predict=sections["predict"],
                trust=sections["trust"],
                **place,
            )
            candidate = {"package": packed.outputs["package"], "training": trained.outputs["training"]}
            rules = {"register": sections["register"], "trust": sections["trust"]}
            registered = register(promote=False, **rules, **candidate, **place)
            with dsl.If(registered.outputs["Output"] == True, name="passed"):  # noqa: E712 - kfp reads the comparison
                promoted = register(promote=True, **rules, **candidate, **place)
            promoted.set_display_name("promote")
        if claim is not None:
            kubernetes.mount_pvc(raw, claim, DATA)
        asked = {
            "train": (sections["pod_gpus"], train_memory),
            "evaluate": (evaluate_gpus, evaluate_memory),
            "predict": (predict_gpus,),
        }
        tasks = {
            "begin": read,
            "acquire": raw,
            "check": checked,
            "preprocess-shard": sharded,
            "preprocess": stored,
            "train": trained,
            "evaluate": scored,
            "export": packed,
            "predict": mapped,
            "register": registered,
            "promote": promoted,
            "finish": closing,
        }
        for name, task in tasks.items():
            if given := resources.get(name):
                apply(task, given, image, *asked.get(name, ()))
                if name == "export":  # no other task sees the key
                    kubernetes.use_secret_as_env(task, SIGNING_SECRET, {VARIABLE: VARIABLE}, optional=True)

    return mobanet


def compiled(pipeline: Any) -> str:
    """The pipeline as YAML for Kubeflow."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mobanet.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        return path.read_text()
