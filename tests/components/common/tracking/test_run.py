"""components/common/tracking/run.py: runs are joined, resumed and closed with their status; a dead store is noticed."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import time

import mlflow
import numpy as np
import pytest
import requests
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import (
    ENDPOINT_NOT_FOUND,
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    REQUEST_LIMIT_EXCEEDED,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)

from components.common.errors import TrackingError
from components.common.tracking import answers, outbox, server
from components.common.tracking import run as tracking
from components.common.tracking.answers import is_refusal
from components.common.tracking.run import new_runs_tagged, open_run
from components.common.tracking.server import connect, end_runs, experiment_id, run_page


def answer_with(code: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = code
    return requests.HTTPError(response=response)


def stored(run_id: str):
    return mlflow.MlflowClient().get_run(run_id)


def history(run_id: str, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in mlflow.MlflowClient().get_metric_history(run_id, metric)]


def test_a_run_keeps_what_it_is_told(mlflow_folder) -> None:
    (mlflow_folder / "notes.txt").write_text("read me")
    with open_run("mlflow", experiment="city") as run:
        run.params({"train": {"steps": 3, "masking": {"area": [0.1, 0.3]}}, "seed": 1})
        run.metrics({"loss": 0.5, "undefined": math.nan, "absent": None, "endless": math.inf}, 1)
        run.image("crop", np.zeros((8, 8, 3), np.uint8), 1)
        run.artifact(mlflow_folder / "notes.txt", "texts")
        run.tags({"data_md5": "abc"})
    kept = stored(run.id)
    assert kept.info.status == "FINISHED"
    assert kept.data.params == {"train.steps": "3", "train.masking.area": "[0.1, 0.3]", "seed": "1"}
    assert {k: v for k, v in kept.data.metrics.items() if not k.startswith("system/")} == {"loss": 0.5}
    assert kept.data.tags["data_md5"] == "abc"
    client = mlflow.MlflowClient()
    assert client.get_experiment(kept.info.experiment_id).name == "city"
    assert [a.path for a in client.list_artifacts(run.id, "texts")] == ["texts/notes.txt"]
    assert any(a.path.endswith(".png") for a in client.list_artifacts(run.id, "images"))


def test_the_store_is_where_a_plain_mlflow_ui_looks(mlflow_folder) -> None:
    with open_run("mlflow", experiment="city") as run:
        assert mlflow.get_tracking_uri() == f"sqlite:///{mlflow_folder}/mlflow.db"
    assert stored(run.id).info.artifact_uri.startswith(str(mlflow_folder / "mlruns"))


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_an_interrupted_run_is_closed_with_its_status(mlflow_folder, error, status) -> None:
    with pytest.raises(error), open_run("mlflow", experiment="city") as run:
        raise error
    assert stored(run.id).info.status == status


def test_a_resumed_run_is_the_same_run_and_gets_no_step_twice(mlflow_folder, caplog) -> None:
    with pytest.raises(KeyboardInterrupt), open_run("mlflow", experiment="city") as first:
        first.params({"lr": 0.1})
        for step in (5, 10):
            first.metrics({"loss": 1.0, "rate": 0.1}, step, once=True)
        raise KeyboardInterrupt
    with open_run("mlflow", experiment="city", run_id=first.id) as second:
        assert second.id == first.id
        assert stored(first.id).info.status == "RUNNING"
        second.params({"lr": 0.2, "steps": 30})
        for step in (5, 10, 15, 20):
            second.metrics({"loss": 0.5}, step, once=True)
        second.metrics({"test": 1.0}, 10)
        second.metrics({"test": 2.0}, 10)  # evaluated again
    assert "MLflow keeps lr = 0.1 from the start" in caplog.text
    assert stored(first.id).data.params == {"lr": "0.1", "steps": "30"}
    assert history(first.id, "loss") == [(5, 1.0), (10, 1.0), (15, 0.5), (20, 0.5)]
    assert history(first.id, "test") == [(10, 1.0), (10, 2.0)]
    assert stored(first.id).info.status == "FINISHED"


def test_a_second_training_in_the_same_run_loses_no_metric(mlflow_folder, monkeypatch) -> None:
    with open_run("mlflow", experiment="city") as first:
        for step in (5, 10, 15):
            first.metrics({"loss": 7.55}, step, once=True)
    monkeypatch.setenv("MLFLOW_RUN_ID", first.id)
    time.sleep(0.002)  # the store tells the trainings apart by milliseconds
    with pytest.raises(KeyboardInterrupt), open_run("mlflow", experiment="city") as second:
        for step in (5, 10):
            second.metrics({"loss": 4.33}, step, once=True)
        raise KeyboardInterrupt
    with open_run("mlflow", experiment="city", run_id=second.id) as resumed:  # from the checkpoint of step 5
        for step in (10, 15):
            resumed.metrics({"loss": 4.33}, step, once=True)
    assert sorted(history(first.id, "loss")) == [(5, 4.33), (5, 7.55), (10, 4.33), (10, 7.55), (15, 4.33), (15, 7.55)]


def test_the_run_of_the_environment_is_joined_and_stays_there(mlflow_folder, monkeypatch) -> None:
    with open_run("mlflow", experiment="city") as pipeline:
        pass
    monkeypatch.setenv("MLFLOW_RUN_ID", pipeline.id)
    with open_run("mlflow", experiment="another") as step:
        assert step.id == pipeline.id
    assert os.environ["MLFLOW_RUN_ID"] == pipeline.id
    with open_run("mlflow", experiment="city", run_id=None) as later:
        assert later.id == pipeline.id


def test_a_given_run_goes_before_the_one_of_the_environment(mlflow_folder, monkeypatch) -> None:
    with open_run("mlflow", experiment="city") as training:
        pass
    monkeypatch.setenv("MLFLOW_RUN_ID", "f" * 32)
    with open_run("mlflow", experiment="city", run_id=training.id) as run:
        assert run.id == training.id


def test_an_unknown_run_of_the_environment_is_an_error(mlflow_folder, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "f" * 32)
    with pytest.raises(TrackingError, match="f{32} of MLFLOW_RUN_ID is not in"), open_run("mlflow", experiment="city"):
        pass


def test_a_run_of_another_store_goes_on_as_a_new_one(mlflow_folder, caplog) -> None:
    with open_run("mlflow", experiment="city", run_id="e" * 32) as run:
        assert run.id != "e" * 32
    assert stored(run.id).data.tags["continues"] == "e" * 32
    assert "a new run continues it" in caplog.text


def test_without_tracking_nothing_is_written(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_run("none", experiment="city") as run:
        run.params({"a": 1})
        run.metrics({"loss": 1.0}, 1)
        run.image("crop", np.zeros((8, 8, 3), np.uint8), 1)
        run.artifact(tmp_path, "all")
        run.tags({"a": 1})
        assert run.id is None
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_goes_away_gets_everything_later(mlflow_folder, monkeypatch, caplog) -> None:
    monkeypatch.setattr(outbox, "RETRY_S", 0.0)
    with open_run("mlflow", experiment="city") as run:
        with monkeypatch.context() as cut_off:
            cut_off.setattr(mlflow.MlflowClient, "log_batch", lambda *args, **kwargs: 1 / 0)
            run.metrics({"loss": 1.0}, 1)
            run.tags({"colour": "blue"})
        run.metrics({"loss": 0.5}, 2)
    assert "MLflow did not accept metrics of steps 1 to 1 (division by zero); the run continues" in caplog.text
    assert history(run.id, "loss") == [(1, 1.0), (2, 0.5)]
    assert stored(run.id).data.tags["colour"] == "blue"


def test_a_store_that_is_away_at_the_end_gets_everything_some_seconds_later(mlflow_folder, monkeypatch) -> None:
    monkeypatch.setattr(answers, "PAUSES_S", (0.0, 0.0))
    send, failures = mlflow.MlflowClient.log_batch, [ConnectionError("away"), TimeoutError("slow")]

    def busy(*args, **options):
        if failures:
            raise failures.pop()
        send(*args, **options)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", busy)
    with open_run("mlflow", experiment="city") as run:
        run.metrics({"loss": 1.0}, 3)
    assert history(run.id, "loss") == [(3, 1.0)] and run.missing == ()


def test_what_a_server_never_accepted_is_listed_at_the_end(mlflow_folder, monkeypatch, caplog) -> None:
    monkeypatch.setattr(answers, "PAUSES_S", (0.0,))
    with open_run("mlflow", experiment="city") as run:
        monkeypatch.setattr(mlflow.MlflowClient, "log_batch", lambda *args, **kwargs: 1 / 0)
        for step in (3, 6):
            run.metrics({"loss": 1.0}, step)
        run.image("crop", np.zeros((8, 8, 3), np.uint8), 6)
    assert f"MLflow run {run.id} lacks metrics of steps 3 to 6, image crop" in caplog.text


CLASSES = ["trees & shrubs", "trees (deciduous)", "water/river", "/", "..", "50 %", "Straße", "a,b;c#d"]


def test_metrics_of_classes_with_any_name_arrive(mlflow_folder) -> None:
    with open_run("mlflow", experiment="city") as run:
        run.metrics({f"test/iou/{name}": float(i) for i, name in enumerate(CLASSES)}, 1)
    found = {k: v for k, v in stored(run.id).data.metrics.items() if not k.startswith("system/")}
    assert sorted(found.values()) == [float(i) for i in range(len(CLASSES))]
    assert found["test/iou/trees _x26_ shrubs"] == 0.0 and found["test/iou/Straße"] == 6.0
    assert run.missing == ()


def test_of_a_folder_every_file_arrives_but_the_one_that_is_refused(mlflow_folder, monkeypatch, caplog) -> None:
    reports, log_artifact = mlflow_folder / "reports", mlflow.MlflowClient.log_artifact
    (reports / "panels").mkdir(parents=True)
    for name in ("a.json", "large.tif", "panels/tile.png"):
        (reports / name).write_text(name)

    def limited(self, run_id, path, folder):
        if path.endswith("large.tif"):
            raise answer_with(413)
        log_artifact(self, run_id, path, folder)

    monkeypatch.setattr(mlflow.MlflowClient, "log_artifact", limited)
    with open_run("mlflow", experiment="city") as run:
        run.artifact(reports, "evaluation")
    assert run.missing == (str(reports / "large.tif"),)
    client = mlflow.MlflowClient()
    found = [
        entry.path for folder in ("evaluation", "evaluation/panels") for entry in client.list_artifacts(run.id, folder)
    ]
    assert found == ["evaluation/a.json", "evaluation/panels", "evaluation/panels/tile.png"]


def test_a_picture_of_a_tile_with_any_name_arrives(mlflow_folder) -> None:
    with open_run("mlflow", experiment="city") as run:
        run.image("validation Straße & Hof: 1", np.zeros((8, 8, 3), np.uint8), 1)
    (picture, *_) = mlflow.MlflowClient().list_artifacts(run.id, "images")
    assert "validation Stra_xDF_e _x26_ Hof_x3A_ 1" in picture.path and run.missing == ()


def test_what_mlflow_refuses_for_good_is_left_out_and_the_rest_arrives(mlflow_folder, caplog) -> None:
    with open_run("mlflow", experiment="city") as run:
        run.tags({"first": 1, "": "a key that MLflow rejects", "last": 3})
        run.params({"": "a key that MLflow rejects", "steps": 3})
        run.artifact(mlflow_folder / "none.txt")
        run.metrics({"loss": 1.0}, 1)
    kept = stored(run.id).data
    assert kept.metrics["loss"] == 1.0 and kept.params == {"steps": "3"}
    assert (kept.tags["first"], kept.tags["last"]) == ("1", "3")
    assert run.missing == ("tag ", "parameter ", str(mlflow_folder / "none.txt"))


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (MlflowException("bad name", INVALID_PARAMETER_VALUE), True),
        (MlflowException("no such run", RESOURCE_DOES_NOT_EXIST), True),
        (RestException({"error_code": "BAD_REQUEST", "message": ""}), True),
        (MlflowException("slow down", REQUEST_LIMIT_EXCEEDED), False),
        (MlflowException("login expired", PERMISSION_DENIED), False),
        (MlflowException("database is away", TEMPORARILY_UNAVAILABLE), False),
        (RestException({"error_code": "503", "message": ""}), False),
        (answer_with(413), True),
        (MlflowException("API request to endpoint /x failed with error code 413 != 200"), True),
        (MlflowException("API request to endpoint /x failed with error code 404 != 200", ENDPOINT_NOT_FOUND), False),
        (answer_with(408), False),
        (answer_with(502), False),
        (ValueError("invalid characters in key"), True),
        (ConnectionError("nobody there"), False),
        (ZeroDivisionError(), False),
    ],
    ids=repr,
)
def test_only_an_answer_that_cannot_change_is_a_refusal(error, refused) -> None:
    assert is_refusal(error) is refused


def test_a_resumed_run_whose_store_is_away_goes_on_and_sends_all_when_it_is_back(
    mlflow_folder, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(outbox, "RETRY_S", 0.0)
    with open_run("mlflow", experiment="city") as first:
        first.metrics({"loss": 1.0}, 1, once=True)
    (mlflow_folder / "mlflow.db").rename(mlflow_folder / "away.db")
    (mlflow_folder / "mlflow.db").write_text("not a database" * 100)
    with pytest.raises(TrackingError), open_run("mlflow", experiment="city", run_id=first.id):
        pass
    with open_run("mlflow", experiment="city", run_id=first.id, patient=True) as second:
        for step in (1, 2):
            second.metrics({"loss": 0.5}, step, once=True)
        (mlflow_folder / "away.db").rename(mlflow_folder / "mlflow.db")
        second.metrics({"loss": 0.25}, 3, once=True)
    assert second.id == first.id
    assert "The run continues, and MLflow gets the data" in caplog.text
    assert history(first.id, "loss") == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert stored(first.id).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9 "),
        ("http://user:secret@127.0.0.1:9", "http://user:***@127.0.0.1:9 "),
        ("sqlite:///damaged.db", "sqlite:///damaged.db "),
        ("carrier-pigeon://here", "carrier-pigeon://here "),
    ],
)
def test_a_store_that_cannot_be_used_is_named_at_once(mlflow_folder, monkeypatch, uri, shown) -> None:
    (mlflow_folder / "damaged.db").write_text("not a database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    start = time.monotonic()
    with pytest.raises(TrackingError) as caught, open_run("mlflow", experiment="city"):
        pass
    message = str(caught.value)
    assert shown in message and "secret" not in message and "\n" not in message
    assert time.monotonic() - start < 10


def test_a_machine_without_mlflow_gets_an_error_with_the_remedy(monkeypatch) -> None:
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrackingError, match="pip install mlflow.*runtime.tracking: none"):
        connect()


def test_mlflow_is_neither_imported_early_nor_talkative(mlflow_folder) -> None:
    code = (
        "import logging, sys\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "from components.common.tracking.run import open_run\n"
        "assert 'mlflow' not in sys.modules\n"
        "with open_run('mlflow', experiment='city') as run: run.metrics({'loss': 1.0}, 1)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tracking.Path(__file__).parents[4]), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_level_of_other_loggers_is_left_alone(mlflow_folder) -> None:
    before = logging.getLogger().level
    connect()
    assert logging.getLogger().level == before


def test_runs_that_a_lost_process_left_open_are_closed_and_no_others(mlflow_folder) -> None:
    client = mlflow.MlflowClient()
    experiment = experiment_id(connect(), "city")
    lost = client.create_run(experiment, tags={"kubeflow_run": "r1"}).info.run_id
    other = client.create_run(experiment, tags={"kubeflow_run": "r2"}).info.run_id
    with new_runs_tagged({"kubeflow_run": "r1"}), open_run("mlflow", experiment="city") as done:
        pass
    assert end_runs({"kubeflow_run": "r1"}, "FAILED") == (lost,)
    assert [stored(run).info.status for run in (lost, other, done.id)] == ["FAILED", "RUNNING", "FINISHED"]


def test_a_run_has_a_page_where_the_store_is_a_server(mlflow_folder, monkeypatch) -> None:
    with open_run("mlflow", experiment="city") as run:
        pass
    assert run_page(run.id) is None
    experiment = stored(run.id).info.experiment_id
    client = mlflow.MlflowClient()
    monkeypatch.setattr(mlflow, "MlflowClient", lambda: client)
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "https://user:secret@mlflow:5000/base/")
    page = run_page(run.id)
    assert page == f"https://mlflow:5000/base/#/experiments/{experiment}/runs/{run.id}"
