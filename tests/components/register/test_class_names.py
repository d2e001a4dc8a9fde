"""A class may have a name that MLflow rejects: the version gets its figures under an accepted name."""

from __future__ import annotations

import json
import shutil

import mlflow

from components.register.step import RegisterConfig, run

CONFIG = RegisterConfig(model_name="city", promote=True, max_fused_drop=0.5, max_worst_class_drop=2.0)


def test_a_model_with_a_class_name_that_mlflow_rejects_is_registered(mlflow_folder, trained, package) -> None:
    folder = shutil.copytree(package, mlflow_folder / "package")
    scores = json.loads(trained.evaluation.read_text())
    headline = scores["scores"]["eroded"]["rgb+dsm"]
    classes = headline["per_class"]
    replaced = next(name for name in classes if name != headline["worst_class"])
    classes["trees (deciduous) & shrubs"] = classes.pop(replaced) | {"iou": 61.5}
    (mlflow_folder / "evaluation.json").write_text(json.dumps(scores))
    (mlflow_folder / "run.json").write_text(json.dumps({"mlflow_run_id": None}))
    run(CONFIG, folder, mlflow_folder / "evaluation.json", mlflow_folder / "run.json", mlflow_folder / "out.json")
    tags = mlflow.MlflowClient().get_model_version("city", "1").tags
    assert tags["scores.iou.trees _deciduous_ _ shrubs"] == "61.5"
