"""components/common/tracking/server.py: the first contact finds what would fail later, and only one answer means no."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import mlflow
import pytest

from components.common.errors import TrackingError
from components.common.tracking import answers, server
from components.common.tracking.answers import UnreachableError
from components.common.tracking.run import open_run
from components.common.tracking.server import connect, experiment_id, is_known

RUN = "a" * 32
NO_SUCH_RUN = (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"})
BUSY = (503, "<html>busy</html>")
HTML_404 = (404, "<html>no route</html>")


class FakeServer:
    """A server whose answers a test sets: end of a path -> answers; the last one stays."""

    def __init__(self) -> None:
        active = {"info": {"run_id": RUN, "lifecycle_stage": "active", "experiment_id": "1", "status": "RUNNING"}}
        self.answers = {
            "experiments/search": [(200, {"experiments": []})],
            "logged-models/search": [(200, {"models": []})],
            "/version": [(200, "3.17.2")],
            "runs/get": [(200, {"run": active | {"data": {}}})],
        }
        self.asked: list[str] = []

    def answer(self, path: str) -> tuple[int, str | dict]:
        path = path.partition("?")[0]
        self.asked.append(path)
        for end, left in self.answers.items():
            if path.endswith(end):
                return left.pop(0) if len(left) > 1 else left[0]
        return HTML_404


@pytest.fixture
def fake(monkeypatch):
    state = FakeServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            code, body = state.answer(self.path)
            text = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{http.server_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr(answers, "PAUSES_S", (0.01, 0.01, 0.01))
    yield state
    http.shutdown()
    http.server_close()


@pytest.mark.parametrize(
    "busy",
    [
        BUSY,
        (502, "bad gateway"),
        (429, "slow down"),
        (403, {"error_code": "PERMISSION_DENIED", "message": "not now"}),
        (500, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "database is away"}),
        HTML_404,
    ],
    ids=str,
)
def test_a_run_is_known_if_the_server_answers_late(fake, busy) -> None:
    known = fake.answers["runs/get"]
    fake.answers["runs/get"] = [busy, busy, *known]
    assert is_known(connect(), RUN)


@pytest.mark.parametrize("busy", [BUSY, (403, {"error_code": "PERMISSION_DENIED", "message": "no"})], ids=str)
def test_a_server_that_does_not_answer_is_an_error_and_no_absent_run(fake, busy) -> None:
    fake.answers["runs/get"] = [busy]
    with pytest.raises(UnreachableError) as caught:
        is_known(connect(), RUN)
    assert str(caught.value).startswith(f"cannot read run {RUN} in http://user:***@127.0.0.1:")
    assert "secret" not in str(caught.value) and fake.asked.count("/api/2.0/mlflow/runs/get") == 4


def test_only_the_answer_that_a_run_does_not_exist_means_that(fake) -> None:
    fake.answers["runs/get"] = [BUSY, NO_SUCH_RUN]
    assert not is_known(connect(), RUN)


def test_a_resumed_training_keeps_its_run_through_an_outage(fake, caplog) -> None:
    fake.answers["runs/get"] = [BUSY]
    with open_run("mlflow", experiment="city", run_id=RUN, patient=True) as run:
        assert run.id == RUN
    assert "The run continues, and MLflow gets the data" in caplog.text
    assert not any(path.endswith("runs/create") for path in fake.asked)


def test_a_server_that_restarts_is_waited_for_at_the_first_contact(fake) -> None:
    fake.answers["experiments/search"] = [BUSY, BUSY, (200, {"experiments": []})]
    connect()


def test_a_server_without_logged_models_is_an_error_before_the_training(fake) -> None:
    fake.answers |= {"logged-models/search": [HTML_404], "/version": [(200, "2.22.1")]}
    with pytest.raises(TrackingError) as caught, open_run("mlflow", experiment="city"):
        pass
    assert "(version 2.22.1) does not store logged models, which the register step needs" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_server_that_numbers_versions_unsafely_is_reported_once(fake, caplog) -> None:
    fake.answers["/version"] = [(200, "3.5.0")]
    connect()
    connect()
    assert caplog.text.count("has version 3.5.0; before 3.17") == 1


def test_a_wrong_password_names_the_variables(fake) -> None:
    fake.answers["experiments/search"] = [(401, "You are not authenticated")]
    with pytest.raises(TrackingError, match="correct MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
        connect()
    assert fake.asked == ["/api/2.0/mlflow/experiments/search"]


def test_a_provider_of_credentials_that_is_not_installed_is_named(fake, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "sigv4")
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_AUTH is 'sigv4', but MLflow here has only kubernetes, "):
        connect()
    assert fake.asked == []


def test_a_pod_without_a_token_is_told_which_variable_asks_for_it(fake, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "kubernetes-namespaced")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(TrackingError, match="check the credentials that MLFLOW_TRACKING_AUTH names"):
        connect()
    assert fake.asked == []


def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(mlflow_folder) -> None:
    client = connect()
    number = experiment_id(client, "city")
    client.delete_experiment(number)
    with pytest.raises(TrackingError) as caught, open_run("mlflow", experiment="city"):
        pass
    assert f"`mlflow experiments restore -x {number}`, or set runtime.experiment to another name" in str(caught.value)
    client.restore_experiment(number)
    with open_run("mlflow", experiment="city") as run:
        assert mlflow.get_run(run.id).info.experiment_id == number


def test_two_processes_can_create_the_same_experiment(mlflow_folder, monkeypatch) -> None:
    client, create = connect(), mlflow.MlflowClient.create_experiment

    def late(self, name):
        create(self, name)  # by the other process
        return create(self, name)

    monkeypatch.setattr(mlflow.MlflowClient, "create_experiment", late)
    assert experiment_id(client, "city") == client.get_experiment_by_name("city").experiment_id


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("arn:aws:sagemaker:eu-west-1:1:mlflow-tracking-server/x", "`pip install sagemaker-mlflow`"),
        ("azureml://eu.api.azureml.ms/mlflow/x", "`pip install azureml-mlflow`"),
        ("databricks://profile", "Databricks"),
        ("databricks", "Databricks"),
        ("uc:http://127.0.0.1:9", "Unity Catalog"),
        ("file:///nowhere/mlruns", "`mlflow migrate-filestore`"),
        ("carrier-pigeon://here", "MLflow does not know its scheme"),
    ],
)
def test_an_address_that_is_no_database_is_left_to_mlflow(uri, words, monkeypatch) -> None:
    import sqlalchemy

    def refuse() -> mlflow.MlflowClient:
        raise mlflow.MlflowException("Reading Databricks credential configuration failed")

    if uri.startswith("databricks"):  # without its library, MLflow looks for a cloud for seconds
        monkeypatch.setattr(mlflow, "MlflowClient", refuse)
    monkeypatch.setattr(sqlalchemy, "create_engine", lambda *_, **__: pytest.fail("not a database"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError) as caught:
        connect()
    assert words in str(caught.value) and str(caught.value).startswith(f"cannot use the MLflow store {uri} (")


def test_a_new_server_is_checked_once(fake) -> None:
    server._require_features.cache_clear()
    connect()
    connect()
    assert sum(path.endswith("logged-models/search") for path in fake.asked) == 1
