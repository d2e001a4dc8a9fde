"""components/common/tracking/sqlite_store.py: several processes can create a store, and its folder can be moved."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from components.common.errors import TrackingError
from components.common.tracking import sqlite_store
from components.common.tracking.registered_models import fetch
from components.common.tracking.run import open_run
from components.common.tracking.server import connect

PROJECT = Path(__file__).parents[4]


@pytest.mark.system
def test_processes_that_start_together_create_one_complete_store(tmp_path) -> None:
    code = (
        "import pathlib, time, mlflow\n"
        "from components.common.tracking.server import connect, experiment_id\n"
        "pathlib.Path(f'ready-{__import__(\"os\").getpid()}').touch()\n"
        "while len(list(pathlib.Path().glob('ready-*'))) < 3: time.sleep(0.005)\n"
        "print(experiment_id(connect(), 'city'))\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    environment["PYTHONPATH"] = str(PROJECT)
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=-1, stderr=-1, text=True)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=300)[0] for process in processes] == ["1\n"] * 3
    assert sorted(path.name for path in tmp_path.glob("mlflow*")) == ["mlflow.db"]


def test_a_process_waits_while_another_one_creates_the_store(tmp_path) -> None:
    from filelock import Timeout

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with sqlite_store.creation(uri):
        (tmp_path / "mlflow.db").write_text("half of the tables")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Timeout):
            patch.setattr(sqlite_store, "CREATION_S", 0.05)
            with sqlite_store.creation(uri):
                pass
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    with sqlite_store.creation(uri):
        assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.fixture
def moved_project(mlflow_folder, monkeypatch):
    """A project with a registered model, moved to another folder."""
    before, after = mlflow_folder / "project", mlflow_folder / "elsewhere"
    before.mkdir()
    (mlflow_folder / "mlflow.db").rename(before / "mlflow.db")
    monkeypatch.chdir(before)
    with open_run("mlflow", experiment="city") as run:
        (before / "model.safetensors").write_text("weights")
        run.artifact(before / "model.safetensors")
    client = mlflow.MlflowClient()
    logged = client.create_logged_model(client.get_experiment_by_name("city").experiment_id, name="mobanet")
    client.log_model_artifact(logged.model_id, str(before / "model.safetensors"))
    client.finalize_logged_model(logged.model_id, "READY")
    client.create_registered_model("city")
    client.create_model_version("city", f"models:/{logged.model_id}", model_id=logged.model_id)
    before.rename(after)
    monkeypatch.chdir(after)
    return before, after, run.id


def test_a_moved_project_is_noticed_and_its_paths_can_be_corrected(moved_project, tmp_path, capsys) -> None:
    before, after, run_id = moved_project
    with pytest.raises(TrackingError) as caught:
        connect()
    assert f"its artifacts are in {after}, but it has recorded {before}; run `{sqlite_store.COMMAND}`" in str(
        caught.value
    )
    with (
        pytest.raises(TrackingError, match="was moved"),
        open_run("mlflow", experiment="city", run_id=run_id, patient=True),
    ):
        pass
    assert sqlite_store.main([]) == 0
    assert capsys.readouterr().out == f"{before} -> {after}\n1 folders corrected\n"
    (tmp_path / "got").mkdir()
    assert fetch("models:/city/1", "model.safetensors", tmp_path / "got")[0].read_text() == "weights"
    with open_run("mlflow", experiment="city") as run:
        assert mlflow.get_run(run.id).info.artifact_uri.startswith(str(after))
    assert [entry.path for entry in mlflow.MlflowClient().list_artifacts(run_id)] == ["model.safetensors"]
    assert not before.exists()


def test_a_store_that_was_not_moved_stays_as_it_is(mlflow_folder) -> None:
    uri = f"sqlite:///{mlflow_folder}/mlflow.db"
    connect()
    assert sqlite_store.moved(uri) == [] == sqlite_store.relocate(uri)
    assert sqlite_store.moved("postgresql://u@h/db") == [] == sqlite_store.moved("sqlite://")


def test_a_file_that_is_no_database_cannot_be_corrected_and_none_is_created(tmp_path) -> None:
    (tmp_path / "damaged.db").write_text("not a database" * 100)
    with pytest.raises(TrackingError, match=r"damaged\.db cannot be corrected \(file is not a database\); check"):
        sqlite_store.main([f"sqlite:///{tmp_path}/damaged.db"])
    assert sqlite_store.main([f"sqlite:///{tmp_path}/missing.db"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.db"]
