"""The six doors one after the other, on a city of 256 px tiles and a network of four steps."""

from __future__ import annotations

import json

import mlflow
import pytest
from safetensors import safe_open


@pytest.fixture(scope="module")
def ran(tiny_project):
    for step in ("train", "evaluate", "export", "register"):
        done = tiny_project.step(step)
        assert done.returncode == 0, done.stderr
    return tiny_project


@pytest.fixture
def client(ran):
    return mlflow.MlflowClient(f"sqlite:///{ran.root / 'mlflow.db'}")


def load(ran, name):
    return json.loads((ran.root / name).read_text())


def test_every_promised_file_is_there(ran):
    for name in (
        "models/best.safetensors",
        "models/training.csv",
        "reports/evaluation.json",
        "reports/metrics.json",
        "reports/confusion.csv",
        "reports/confusion.png",
        "reports/panels/5_10.png",
        "reports/panels/5_11.png",
        "reports/report.html",
        "package/model.onnx",
        "package/model.safetensors",
        "package/README.md",
        "reports/registration.json",
    ):
        assert (ran.root / name).stat().st_size > 0, name


def test_one_run_holds_parameters_curves_pictures_and_test_scores(ran, client):
    (experiment,) = [e for e in client.search_experiments() if e.name == "mobanet"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_id == load(ran, "models/run.json")["mlflow_run_id"]
    assert run.data.params["train.steps"] == "4"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")] == [1, 2, 3, 4]
    assert {"val/miou_fused", "val/expected_miou", "test/miou", "test/expected_miou"} <= run.data.metrics.keys()
    assert {"git_commit", "data_md5"} <= run.data.tags.keys()
    assert any(
        "validation 4_10" in f.path.replace("_", " ") or "4_10" in f.path
        for f in client.list_artifacts(run.info.run_id, "images")
    )


def test_the_data_version_is_the_same_in_model_report_and_registry(ran, client):
    with safe_open(ran.root / "package/model.safetensors", "pt") as file:
        md5 = json.loads(file.metadata()["mobanet"])["data_md5"]
    assert load(ran, "reports/evaluation.json")["protocol"]["data_md5"] == md5
    model = client.get_registered_model("mobanet")
    version = client.get_model_version_by_alias(model.name, "challenger")
    assert version.tags["data_md5"] == md5


def test_the_first_version_is_challenger_and_champion(client):
    model = client.get_registered_model("mobanet")
    assert model.aliases.keys() == {"challenger", "champion"}


def test_registering_again_adds_no_version(ran, client):
    done = ran.step("register")
    assert done.returncode == 0, done.stderr
    model = client.get_registered_model("mobanet")
    assert len(client.search_model_versions(f"name='{model.name}'")) == 1
