"""A package as an MLflow model: the ONNX graph for `mlflow.pyfunc`, and the other files of the package next to it.

`mlflow.pyfunc.load_model(uri).predict({"image": image, "dsm": dsm})` returns `{"logits": logits}`; the model card lists
the shapes. Nothing in it is pickled.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from components.common.errors import TrackingError, reason
from components.common.tracking.server import address

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import Model, ModelSignature

ONNX = "model.onnx"
MODEL_FILES = ("model.safetensors", "model_card.md", "export.json")
LARGEST_FILE = 2_000_000_000
"""Limit of an ONNX file, bytes; larger weights go to a second file."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Experiment and run of a model in MLflow."""

    experiment_id: str
    run_id: str | None  # training run; None: not tracked, or in another store


def upload(client: MlflowClient, package: Path, evaluation: Path, record: Mapping[str, Any], origin: Origin) -> str:
    """Log a package as an MLflow model.

    Args:
        client: client of the MLflow store.
        package: folder that the export step wrote.
        evaluation: `evaluation.json` of the same model.
        record: content of the package's `export.json`.
        origin: experiment and run of the model.

    Returns:
        The id of the logged model.

    Raises:
        TrackingError: the artifact store does not accept the files.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    logged = client.create_logged_model(origin.experiment_id, name="mobanet", source_run_id=origin.run_id)
    status: Literal["READY", "FAILED"] = "FAILED"
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "model"
            identity = Model(
                artifact_path=logged.artifact_location,
                run_id=origin.run_id,
                model_uuid=logged.model_id,
                model_id=logged.model_id,
            )
            _save(package, record, made, identity)
            for file in (*(package / name for name in MODEL_FILES), evaluation):
                shutil.copy2(file, made)
            _send(client, logged.model_id, made)
        status = "READY"
    finally:
        client.finalize_logged_model(logged.model_id, status)
    if origin.run_id is not None:  # so that the run's page shows the model
        client.log_outputs(origin.run_id, [LoggedModelOutput(logged.model_id, record["facts"]["step"])])
    return str(logged.model_id)


def _send(client: MlflowClient, model_id: str, folder: Path) -> None:
    try:
        client.log_model_artifacts(model_id, str(folder))
    except Exception as error:  # any error of a disk, a bucket or a server
        raise TrackingError(
            f"the artifact store of {address()} did not accept the model ({reason(error)}); "
            "check its address, space and credentials, then run register again"
        ) from error


def _save(package: Path, record: Mapping[str, Any], target: Path, identity: Model) -> None:
    import mlflow.onnx
    import onnx

    graph = onnx.load(package / ONNX)
    mlflow.onnx.save_model(
        graph,
        str(target),
        mlflow_model=identity,
        signature=signature(record),
        input_example=_example(record),
        pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "onnx", "onnxruntime", "numpy")],
        save_as_external_data=graph.ByteSize() > LARGEST_FILE,
        metadata={"classes": record["facts"]["classes"], "bands": record["facts"]["bands"]},
    )


def signature(record: Mapping[str, Any]) -> ModelSignature:
    """Names, types and shapes of the inputs and the output; the batch size is free."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    inputs: dict[str, list[int]] = record["onnx"]["inputs"]
    sides = inputs["image"][1:]
    float32 = np.dtype(np.float32)
    return ModelSignature(
        Schema([TensorSpec(float32, (-1, *shape), name) for name, shape in inputs.items()]),
        Schema([TensorSpec(float32, (-1, record["onnx"]["classes"], *sides), "logits")]),
    )


def _example(record: Mapping[str, Any]) -> dict[str, Any]:
    """A uniform input (grey image, height 0), because it is small as JSON."""
    shapes: dict[str, list[int]] = record["onnx"]["inputs"]
    values = {"image": 128, "dsm": 0}
    return {name: np.full((1, *shape), values[name], np.float32) for name, shape in shapes.items()}
