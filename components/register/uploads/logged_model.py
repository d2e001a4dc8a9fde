"""A package as a logged model of MLflow: the package's own files, and a description of how to call them.

`mlflow.pyfunc.load_model(uri).predict({"image": image, "dsm": metres})` returns classes and confidence
(`components.serve.pyfunc_model`). The files of the package stay at the top level, for example
`models:/NAME/1/model.safetensors`. Nothing in the artifact is pickled.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.common.errors import TrackingError
from components.common.tracking.logged_format import FORMAT, FORMAT_KEY, LOADER, RELEASE_KEY
from components.common.tracking.provenance import tool_version
from components.common.tracking.server import address, environment, quoted
from components.register.uploads.shared_files import require_seen_by_server

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import Model, ModelSignature

SETTINGS: Mapping[str, tuple[str, float | int | str]] = {
    "overlap": ("double", 0.16),
    "batch_size": ("long", 8),
    "precision": ("string", "auto"),
}
"""Type and default of the prediction settings, those of the project's params.yaml."""

NAME = "mobanet"
"""Name of the logged models of this project."""

DESCRIPTION = "MLmodel"
"""MLflow's description of a logged model."""

EXAMPLE_PX = 8
"""Side of the example input, pixels."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Experiment and run of a model in MLflow."""

    experiment_id: str
    run_id: str | None  # training run; None: not tracked, or in another store


def upload(client: MlflowClient, package: Path, record: Mapping[str, Any], origin: Origin) -> str:
    """Log a package as an MLflow model.

    Args:
        client: client of the MLflow store.
        package: folder that the export step wrote.
        record: content of the package's `export.json`.
        origin: experiment and run of the model.

    Returns:
        The id of the logged model.

    Raises:
        TrackingError: the artifact store does not accept the files, or others could not read them. MLflow then shows
            the model as failed.
    """
    from mlflow.entities import LoggedModelOutput

    logged = client.create_logged_model(origin.experiment_id, name=NAME, source_run_id=origin.run_id)
    model_id = str(logged.model_id)
    try:
        _fill(client, logged, package, record)
    except BaseException:
        with suppress(Exception):  # the first error is the one to report
            client.finalize_logged_model(model_id, "FAILED")
        raise
    client.finalize_logged_model(model_id, "READY")
    if origin.run_id is not None:  # so that the run's page shows the model
        client.log_outputs(origin.run_id, [LoggedModelOutput(model_id, record["facts"]["step"])])
    return model_id


def restore(client: MlflowClient, model_id: str, package: Path, record: Mapping[str, Any]) -> None:
    """Upload the files of a package again into the logged model that was made of it.

    Raises:
        TrackingError: as with `upload`.
        MlflowException: the logged model was deleted.
    """
    _fill(client, client.get_logged_model(model_id), package, record)


def _fill(client: MlflowClient, logged: LoggedModel, package: Path, record: Mapping[str, Any]) -> None:
    """Upload a package and MLflow's description of it."""
    from mlflow.models import Model

    model_id, place, run_id = str(logged.model_id), logged.artifact_location, logged.source_run_id
    identity = Model(artifact_path=place, run_id=run_id, model_uuid=model_id, model_id=model_id)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        describe(target, record, identity)
        identity.model_size_bytes = sum(file.stat().st_size for file in (*package.iterdir(), *target.iterdir()))
        identity.save(str(target / DESCRIPTION))
        _send(client, model_id, target)
        require_seen_by_server(client, model_id, DESCRIPTION)
        _send(client, model_id, package)


def _send(client: MlflowClient, model_id: str, folder: Path) -> None:
    try:
        client.log_model_artifacts(model_id, str(folder))
    except Exception as error:  # any error of a disk, a bucket or a server
        raise TrackingError(
            f"the artifact store of {address()} did not accept the model ({quoted(error)}); "
            "check its address, space and credentials, then run register again"
        ) from error


def describe(target: Path, record: Mapping[str, Any], identity: Model | None = None) -> None:
    """Write MLflow's description of a model, which makes a package next to it loadable.

    Args:
        target: folder to create.
        record: content of the package's `export.json`.
        identity: ids of the model in MLflow; None: none.
    """
    import mlflow.pyfunc

    facts, release = record["facts"], tool_version()
    with environment(MLFLOW_UV_AUTO_DETECT="false"):  # the requirement below is the complete one
        mlflow.pyfunc.save_model(
            str(target),
            loader_module=LOADER,
            mlflow_model=identity,
            signature=signature(facts),
            input_example=_example(facts),
            pip_requirements=[f"mobanet-pipeline=={release}"],
            metadata={
                FORMAT_KEY: FORMAT,
                RELEASE_KEY: release,
                "classes": list(facts["classes"]),
                "bands": list(facts["bands"]),
                "image": f"uint8, [H, W, {len(facts['bands'])}] or [N, H, W, {len(facts['bands'])}], or paths or URLs",
                "dsm": "metres, NaN or null where not measured, [H, W] or [N, H, W], or paths or URLs",
            },
        )


def signature(facts: Mapping[str, Any]) -> ModelSignature:
    """Inputs of any size, of which one can be left out, the outputs, and the settings with their defaults.

    The type of the inputs is `any`: MLflow's types for arrays allow neither a missing input nor paths. The loaded model
    checks the inputs itself.

    Args:
        facts: of the network, from `export.json`.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    anything = AnyType()  # type: ignore[no-untyped-call]
    inputs: list[ColSpec | TensorSpec] = [ColSpec(anything, name, required=False) for name in ("image", "dsm")]
    outputs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype(np.uint8), (-1, -1, -1), name) for name in ("classes", "confidence")
    ]
    settings = dict(SETTINGS) | {
        "window_px": ("long", facts["window_px"]),
        "gsd_m": ("double", facts["gsd_m"]),
        "allow": ("string", ""),
    }
    params = [ParamSpec(name, kind, default) for name, (kind, default) in settings.items()]
    return ModelSignature(Schema(inputs), Schema(outputs), ParamSchema(params))


def _example(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A grey image on flat ground, small as JSON."""
    side = (EXAMPLE_PX, EXAMPLE_PX)
    return {"image": np.full((*side, len(facts["bands"])), 128, np.uint8), "dsm": np.zeros(side, np.float32)}
