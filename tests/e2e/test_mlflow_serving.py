"""`mlflow models serve` of a registered model gives the classes of `mobanet predict`, for arrays and for files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
import requests

from components.common.tracking import server
from components.register.uploads.logged_model import Origin, upload
from tests.components.predict.rasters import image_of, write
from tests.components.serve.toy_model import write_package
from tests.e2e.conftest import BIN, ROOT, free_port, wait_for

pytestmark = pytest.mark.system

MODEL = "models:/city@champion"
IMAGE = image_of(75, 131)
DSM = np.random.default_rng(1).uniform(30, 40, (75, 131)).astype(np.float32)
DSM[:20, :30] = np.nan


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Folder of a store with a toy model as champion, and of two rasters; the current folder meanwhile."""
    folder = tmp_path_factory.mktemp("serving")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        client = server.connect()
        record = write_package(folder / "package")
        place = server.experiment_id(client, "city")
        model_id = upload(client, folder / "package", record, Origin(place, None))
        client.create_registered_model("city")
        tags = {"sha256": record["sha256"]["model.safetensors"]}
        client.create_model_version("city", f"models:/{model_id}", model_id=model_id, tags=tags)
        client.set_registered_model_alias("city", "champion", "1")
        write(folder / "image.tif", IMAGE)
        write(folder / "dsm.tif", DSM)
        yield folder


@pytest.fixture(scope="module")
def expected(store):
    """Classes and confidence of `mobanet predict`."""
    files = ["--image", "image.tif", "--dsm", "dsm.tif", "--output", "map.tif", "--confidence"]
    command = [BIN / "mobanet", "predict", "--model", MODEL, *files, "--params", ROOT / "params.yaml"]
    subprocess.run(command, cwd=store, check=True)
    found = {}
    for name, file in (("classes", "map.tif"), ("confidence", "map_confidence.tif")):
        with rasterio.open(store / file) as dataset:
            found[name] = dataset.read(1)
    return found


@pytest.fixture(scope="module")
def address(store):
    """URL of MLflow's server."""
    port = free_port()
    command = [BIN / "mlflow", "models", "serve", "-m", MODEL, "--env-manager", "local", "--port", str(port)]
    paths = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": paths, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    with (store / "serve.log").open("w") as log:
        process = subprocess.Popen(command, cwd=store, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(port, 120)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(process.pid, 15)
            process.wait(20)


def heights(dsm: np.ndarray) -> list:
    return np.where(np.isnan(dsm), None, dsm.astype("f8")).tolist()


def paths(folder: Path) -> list[str]:
    return [str(folder / name) for name in ("image.tif", "dsm.tif")]


REQUESTS = {
    "arrays": lambda folder: {"inputs": {"image": IMAGE.tolist(), "dsm": heights(DSM)}},
    "a batch": lambda folder: {"inputs": {"image": [IMAGE.tolist()], "dsm": [heights(DSM)]}},
    "a data frame of arrays": lambda folder: {
        "dataframe_split": {"columns": ["image", "dsm"], "data": [[IMAGE.tolist(), heights(DSM)]]}
    },
    "a data frame of files": lambda folder: {"dataframe_split": {"columns": ["image", "dsm"], "data": [paths(folder)]}},
    "files": lambda folder: {"inputs": dict(zip(("image", "dsm"), paths(folder), strict=True))},
}


@pytest.mark.parametrize("form", REQUESTS)
def test_the_answer_has_the_classes_and_the_confidence_of_mobanet_predict(store, address, expected, form):
    answer = requests.post(address, json=REQUESTS[form](store), timeout=60)
    assert answer.status_code == 200, answer.text
    for name, pixels in expected.items():
        found = np.array(answer.json()["predictions"][name])
        assert np.array_equal(found.reshape(75, 131), pixels), name
    assert len(np.unique(expected["classes"])) > 2


def test_a_request_may_change_a_setting(address, expected):
    body = {"inputs": {"image": IMAGE.tolist(), "dsm": heights(DSM)}, "params": {"overlap": 0.5}}
    found = requests.post(address, json=body, timeout=60).json()["predictions"]
    assert not np.array_equal(found["confidence"], expected["confidence"])


def test_a_bad_request_is_answered_with_400_and_the_next_one_is_served(address):
    bad = requests.post(address, json={"inputs": {"image": [[[1, 2, 300]]]}}, timeout=60)
    assert bad.status_code == 400 and "give uint8 values, 0 to 255" in bad.text
    assert requests.post(address, json={"inputs": {"image": IMAGE.tolist()}}, timeout=60).status_code == 200
