"""MLflow as pipeline/deploy starts it, with a real PostgreSQL and a real S3: runs, models, hosts, accounts, memory."""

from __future__ import annotations

import os
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
import requests
from kubernetes.utils.quantity import parse_quantity

from components.common.tracking.run import open_run
from components.common.tracking.server import connect, run_page
from pipeline.services import deployed, processes
from pipeline.services.local_servers import MLFLOW, S3
from tests.servers import NEEDED

pytestmark = [pytest.mark.system, NEEDED]


def test_numbers_are_in_postgresql_and_files_in_the_bucket(task, tmp_path):
    (tmp_path / "scores.json").write_bytes(b'{"miou": 87.5}')
    with open_run("mlflow", experiment="runs") as run:
        run.params({"train": {"steps": 3}})
        run.metrics({"loss": 0.5}, 1)
        run.image("crop", np.zeros((8, 8, 3), np.uint8), 1)
        run.artifact(tmp_path / "scores.json", "reports")
    assert task.rows(f"select status from runs where run_uuid = '{run.id}'") == [("FINISHED",)]
    assert task.rows(f"select key, value, step from metrics where key = 'loss' and run_uuid = '{run.id}'") == [
        ("loss", 0.5, 1)
    ]
    assert task.rows(f"select key, value from params where run_uuid = '{run.id}'") == [("train.steps", "3")]
    kept = task.objects()
    (scores,) = (content for key, content in kept.items() if key.endswith(f"{run.id}/artifacts/reports/scores.json"))
    assert scores == b'{"miou": 87.5}'
    assert any("/images/" in key and key.endswith(".png") for key in kept)
    page = run_page(run.id)
    assert page is not None and page.startswith(f"{task.url}/#/experiments/")


def test_a_large_file_of_a_model_comes_back_complete(task, tmp_path):
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(os.urandom(20_000_000))  # several parts of an upload
    client = connect()
    logged = client.create_logged_model(client.create_experiment("large"), name="large")
    client.log_model_artifacts(logged.model_id, str(weights.parent))
    client.finalize_logged_model(logged.model_id, "READY")
    back = mlflow.artifacts.download_artifacts(f"models:/{logged.model_id}", dst_path=str(tmp_path / "back"))
    assert (Path(back) / weights.name).read_bytes() == weights.read_bytes()
    (key,) = (key for key, content in task.objects().items() if content == weights.read_bytes())
    (task.services.buckets / "mlflow" / key).unlink()


def test_only_the_host_names_of_the_manifest_are_answered(services):
    port = services.url.rsplit(":", 1)[1]
    account = (services.username, services.password)
    for host, status in ((f"mobanet-mlflow:{port}", 200), ("elsewhere.example.org", 403)):
        assert requests.get(services.url, headers={"Host": host}, auth=account, timeout=10).status_code == status


def test_nothing_but_the_health_is_shown_without_an_account(services):
    paths = {"/health": 200, "/": 401, "/api/2.0/mlflow/experiments/search?max_results=1": 401}
    assert {path: requests.get(services.url + path, timeout=10).status_code for path in paths} == paths
    wrong = requests.get(services.url, auth=(services.username, "wrong"), timeout=10)
    assert wrong.status_code == 401


def test_a_new_account_reads_everything_and_changes_only_its_own(services):
    administrator, colleague = (services.username, services.password), ("colleague", "a password of hers")
    users = f"{services.url}/api/2.0/mlflow/users/create"
    body = dict(zip(("username", "password"), colleague, strict=True))
    assert requests.post(users, json=body, auth=administrator, timeout=10).ok
    models = f"{services.url}/api/2.0/mlflow/registered-models"
    for name, owner in (("theirs", administrator), ("hers", colleague)):
        assert requests.post(f"{models}/create", json={"name": name}, auth=owner, timeout=10).ok
    for name, status in (("theirs", 403), ("hers", 200)):
        tag = {"name": name, "key": "note", "value": "x"}
        assert requests.get(f"{models}/get", params={"name": name}, auth=colleague, timeout=10).ok
        assert requests.post(f"{models}/set-tag", json=tag, auth=colleague, timeout=10).status_code == status


def test_a_second_start_leaves_the_servers_as_they_are(services):
    folder = services.services.folder
    before = [processes.running(folder, name).pid for name in (MLFLOW, S3)]
    services.services.start()
    assert [processes.running(folder, name).pid for name in (MLFLOW, S3)] == before


def test_no_password_is_on_a_command_line(services):
    secrets = (services.password, services.s3.secret, services.accounts.postgres_password)
    for process in psutil.process_iter(["cmdline"]):
        assert not any(secret in text for text in process.info["cmdline"] or () for secret in secrets)


def test_it_stays_within_its_memory_and_writes_only_temporary_files(services):
    server = processes.running(services.services.folder, MLFLOW)
    used = sum(process.memory_full_info().uss for process in (server, *server.children(recursive=True)))
    assert used < parse_quantity(deployed.container()["resources"]["limits"]["memory"])
    assert list((services.services.folder / "work").iterdir()) == []
    assert psutil.Process(server.pid).cwd() == str(services.services.folder / "work")
