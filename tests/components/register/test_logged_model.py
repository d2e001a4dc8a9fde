"""components/register/uploads/logged_model.py: a package in a real store, no pickle, weights once."""

from __future__ import annotations

import json
import pickletools
import shutil
import zipfile
from pathlib import Path

import mlflow
import mlflow.onnx
import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open

from components.common.errors import TrackingError
from components.common.files import digest
from components.common.predictors.models import open_model
from components.common.tracking import server
from components.common.tracking.packages import SIDE_FILES, read_record
from components.predict.arrays import predict_arrays
from components.predict.config import PredictConfig
from components.register.uploads.logged_model import Origin, upload
from tests.components.predict.rasters import image_of

CONFIG = PredictConfig(
    tiles=None, window_px=None, overlap=0.16, batch_size=8, block_px=4096, min_agreement=None, precision="auto"
)
PICKLE_SUFFIXES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".npy", ".npz"}


def logged(package, client):
    return upload(client, package, read_record(package), Origin(server.experiment_id(client, "city"), None))


@pytest.fixture(scope="module")
def store(empty_mlflow_store, tmp_path_factory):
    """A store with the package as version 1 of `city`: its client, its folder, and the downloaded files."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "mlflow.db").write_bytes(empty_mlflow_store.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID"):
            patch.delenv(variable, raising=False)
        yield folder


@pytest.fixture(scope="module")
def client(store):
    return server.connect()


@pytest.fixture(scope="module")
def version(client, package):
    model_id = logged(package, client)
    client.create_registered_model("city")
    client.create_model_version("city", f"models:/{model_id}", model_id=model_id)
    return model_id


@pytest.fixture(scope="module")
def artifact(version, store):
    return Path(mlflow.artifacts.download_artifacts("models:/city/1", dst_path=str(store / "downloaded")))


def test_every_file_of_the_package_lies_unchanged_at_the_top_level(artifact, package):
    for path in package.iterdir():
        assert digest(artifact / path.name) == digest(path), path.name


def test_no_file_of_the_artifact_is_a_pickle_or_contains_one(artifact):
    for path in artifact.rglob("*"):
        if not path.is_file():
            continue
        assert path.suffix not in PICKLE_SUFFIXES and not zipfile.is_zipfile(path), path.name
        assert path.read_bytes()[:2] not in {b"\x80" + bytes([protocol]) for protocol in range(1, 6)}, path.name
        with pytest.raises((ValueError, IndexError)):
            list(pickletools.genops(path.read_bytes()[:10_000]))
    described = (artifact / "MLmodel").read_text()
    assert "cloudpickle" not in described and "loader_module: components.serve.pyfunc_model" in described


def test_the_weights_of_the_loaded_flavor_are_stored_once_as_safetensors(artifact):
    with safe_open(artifact / "model.safetensors", "np") as file:
        largest = max(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118 (not a dict)
    assert {path.name for path in artifact.rglob("*.safetensors")} <= {"model.safetensors", "crops.safetensors"}
    extra = (
        {path.name for path in artifact.iterdir()} - set(read_record(artifact)["sha256"]) - {"export.json"} - SIDE_FILES
    )
    assert extra == {
        *("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "input_example.json"),
        *("serving_input_example.json", "registered_model_meta"),  # MLflow writes the last one while it downloads
    }
    assert all((artifact / name).stat().st_size < min(largest, 100_000) for name in extra)


def test_the_requirements_name_the_release_that_logged_the_model(artifact):
    from components.common.tracking.provenance import tool_version

    lines = (artifact / "requirements.txt").read_text().split()
    assert f"mobanet-pipeline=={tool_version()}" in lines and len(lines) == 2


def test_the_description_states_the_size_of_all_files(artifact):
    stated = mlflow.models.Model.load(str(artifact)).model_size_bytes
    assert abs(stated - sum(path.stat().st_size for path in artifact.iterdir())) < 1000


def test_a_registered_version_gives_the_classes_of_its_package(version, package):
    image, dsm = image_of(40, 50), np.full((40, 50), 33, np.float32)
    found = mlflow.pyfunc.load_model("models:/city/1").predict({"image": image, "dsm": dsm})
    with open_model(str(package), torch.device("cpu"), None, "auto") as predictor:
        expected = predict_arrays(predictor, CONFIG, image, dsm)
    assert np.array_equal(found["classes"], expected.classes_HW)


def test_the_logged_model_is_ready_and_an_output_of_its_training_run(client, package):
    from components.common.tracking.run import open_run

    with open_run("mlflow", experiment="training") as training:
        pass
    experiment = client.get_run(training.id).info.experiment_id
    model_id = upload(client, package, read_record(package), Origin(experiment, training.id))
    model = client.get_logged_model(model_id)
    assert (model.status.value, model.source_run_id) == ("READY", training.id)
    assert [output.model_id for output in client.get_run(training.id).outputs.model_outputs] == [model_id]


def test_a_model_whose_files_are_not_accepted_is_marked_as_failed(client, package, monkeypatch):
    def refused(model_id, folder):
        raise OSError("no space left on device")

    monkeypatch.setattr(client, "log_model_artifacts", refused)
    with pytest.raises(TrackingError, match=r"did not accept the model \(no space left on device\); check its address"):
        logged(package, client)
    newest = client.search_logged_models([server.experiment_id(client, "city")])[0]
    assert newest.status.value == "FAILED"


def test_a_model_that_an_earlier_release_logged_as_onnx_still_loads_and_predicts(client, package, tmp_path):
    record = json.loads((package / "export.json").read_text())
    identity = client.create_logged_model(server.experiment_id(client, "city"), name="mobanet")
    old = tmp_path / "old"
    mlflow.onnx.save_model(onnx.load(package / "model.onnx"), str(old), pip_requirements=["onnxruntime"])
    shutil.copy2(package / "model.safetensors", old)
    (old / "export.json").write_text(json.dumps(record | {"format": 1}))
    client.log_model_artifacts(identity.model_id, str(old))
    client.finalize_logged_model(identity.model_id, "READY")
    client.create_registered_model("older")
    client.create_model_version("older", f"models:/{identity.model_id}", model_id=identity.model_id)
    side, classes = (record["facts"]["window_px"],) * 2, len(record["facts"]["classes"])
    inputs = {name: np.zeros((1, bands, *side), np.float32) for name, bands in (("image", 3), ("dsm", 1))}
    logits = mlflow.pyfunc.load_model("models:/older/1").predict(inputs)["logits"]
    assert logits.shape[:2] == (1, classes)
    with open_model("models:/older/1", torch.device("cpu")) as predictor:
        assert predict_arrays(predictor, CONFIG, image_of(40, 50), None).classes_HW.shape == (40, 50)
