"""The command line and environment of pipeline/deploy's MLflow, with a real PostgreSQL, a real S3, our own client."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
import requests
import sqlalchemy
import yaml
from kubernetes.utils.quantity import parse_quantity

from components.common.tracking.run import open_run
from components.common.tracking.server import connect, run_page
from components.register.registry import Registry
from tests.e2e.conftest import BIN, ROOT, free_port, s3_server

DEPLOY = ROOT / "pipeline/deploy"
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not PROGRAMS, reason="PostgreSQL is not installed: apt-get install postgresql"),
]


def example(name: str) -> dict[str, str]:
    lines = (line for line in (DEPLOY / f"{name}.env.example").read_text().splitlines() if not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def container(kind: str = "containers") -> dict:
    deployment, _ = yaml.safe_load_all((DEPLOY / "base/mlflow.yaml").read_text())
    (only,) = deployment["spec"]["template"]["spec"][kind]
    return only


def environment(given: dict[str, dict[str, str]]) -> dict[str, str]:
    """Variables of the container, with what the secrets say."""
    found: dict[str, str] = {}
    for source in container()["envFrom"]:
        found |= given[source["secretRef"]["name"]]
    for variable in container()["env"]:
        if "value" in variable:
            found[variable["name"]] = variable["value"]
        else:
            wanted = variable["valueFrom"]["secretKeyRef"]
            if (value := given[wanted["name"]].get(wanted["key"])) is not None:
                found[variable["name"]] = value
    return found


@contextmanager
def postgres(settings: dict[str, str]):
    """PostgreSQL with one user and one empty database; it refuses to run as root."""
    user = "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="mobanet-postgres-", dir="/tmp"))  # pytest's folders are root's alone
    password = folder / "password"
    password.write_text(settings["PGPASSWORD"])
    if user:
        for path in (folder, password):
            shutil.chown(path, user)
    call = {"user": user, "cwd": folder, "check": True, "stdout": subprocess.DEVNULL}
    control = [PROGRAMS[-1] / "pg_ctl", "-D", folder / "data"]
    owner = ("-U", settings["PGUSER"], "--auth=scram-sha-256", f"--pwfile={password}")
    options = f"-p {settings['PGPORT']} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    try:
        subprocess.run([PROGRAMS[-1] / "initdb", "-D", folder / "data", *owner], **call)
        subprocess.run([*control, "-w", "-l", folder / "log", "-o", options, "start"], **call)
        try:
            subprocess.run([PROGRAMS[-1] / "createdb"], env=os.environ | settings, **call)
            yield
        finally:
            subprocess.run([*control, "-m", "fast", "stop"], **call)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Server:
    """What runs: its process, its address, the settings of its secrets, the folder of its buckets."""

    def __init__(self, process, port, secrets_given, buckets, folder) -> None:
        self.process, self.url, self.buckets, self.folder = process, f"http://localhost:{port}", buckets, folder
        self.of_tasks, self.of_mlflow = secrets_given["mobanet"], secrets_given["mobanet-mlflow"]

    def rows(self, query: str):
        given = {"host": "PGHOST", "port": "PGPORT", "database": "PGDATABASE", "username": "PGUSER"}
        given = {name: self.of_mlflow[key] for name, key in {**given, "password": "PGPASSWORD"}.items()}
        engine = sqlalchemy.create_engine(sqlalchemy.URL.create("postgresql+psycopg", **given))
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sqlalchemy.text(query))]

    def objects(self) -> dict[str, bytes]:
        """Key -> content of what lies in the bucket that the manifest's secret names."""
        bucket = self.buckets / self.of_mlflow["MLFLOW_ARTIFACTS_DESTINATION"].removeprefix("s3://")
        return {str(p.relative_to(bucket)): p.read_bytes() for p in bucket.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """MLflow as the manifest starts it; hosts, ports and the values of the secrets are this machine's."""
    folder, port, buckets = tmp_path_factory.mktemp("mlflow"), free_port(), tmp_path_factory.mktemp("s3")
    of_tasks, of_mlflow = example("mobanet"), example("mobanet-mlflow")
    of_mlflow |= {"PGHOST": "127.0.0.1", "PGPORT": str(free_port()), "PGPASSWORD": secrets.token_hex()}
    of_tasks |= {"AWS_ACCESS_KEY_ID": secrets.token_hex(8), "AWS_SECRET_ACCESS_KEY": secrets.token_hex()}
    (buckets / of_mlflow["MLFLOW_ARTIFACTS_DESTINATION"].removeprefix("s3://").split("/")[0]).mkdir()
    arguments = [a.replace("5000", str(port)).replace("0.0.0.0", "127.0.0.1") for a in container()["args"]]
    for name in ("tmp", "root"):
        (folder / name).mkdir()
    keys = of_tasks["AWS_ACCESS_KEY_ID"], of_tasks["AWS_SECRET_ACCESS_KEY"]
    with s3_server(buckets, *keys) as s3, postgres(of_mlflow), (folder / "log").open("w") as log:
        of_tasks["AWS_ENDPOINT_URL"] = f"http://localhost:{s3}"
        given = {"mobanet": of_tasks, "mobanet-mlflow": of_mlflow}
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_", "PG"))}
        env |= environment(given) | {"HOME": str(folder / "tmp"), "TMPDIR": str(folder / "tmp")}
        first = container("initContainers")
        assert first["envFrom"] == container()["envFrom"]
        subprocess.run([BIN / first["command"][0], *first["args"]], env=env, cwd=folder / "root", check=True)
        command = [BIN / container()["command"][0], *arguments]
        with subprocess.Popen(command, env=env, cwd=folder / "root", stdout=log, stderr=log) as process:
            try:
                assert healthy(port), (folder / "log").read_text()
                yield Server(process, port, given, buckets, folder)
            finally:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.terminate()
                process.terminate()


def healthy(port: int) -> bool:
    """Whether the server is up within the time that the manifest gives it."""
    probe = container()["startupProbe"]
    for _ in range(probe["failureThreshold"] * probe["periodSeconds"]):
        try:
            if requests.get(f"http://127.0.0.1:{port}{probe['httpGet']['path']}", timeout=1).ok:
                return True
        except requests.RequestException:
            time.sleep(1)
    return False


@pytest.fixture
def task(server, monkeypatch):
    """This process as a task of the graph: it knows the address of the server, and no key."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    for name in ("MLFLOW_RUN_ID", *(name for name in os.environ if name.startswith("AWS_"))):
        monkeypatch.delenv(name, raising=False)
    mlflow.set_tracking_uri(None)
    return server


def test_numbers_are_in_postgresql_and_files_in_the_bucket(task, tmp_path):
    (tmp_path / "scores.json").write_bytes(b'{"miou": 87.5}')
    with open_run("mlflow", experiment="city") as run:
        run.params({"train": {"steps": 3}})
        run.metrics({"loss": 0.5}, 1)
        run.image("crop", np.zeros((8, 8, 3), np.uint8), 1)
        run.artifact(tmp_path / "scores.json", "reports")
    assert task.rows("select status from runs") == [("FINISHED",)]
    assert task.rows("select key, value, step from metrics where key = 'loss'") == [("loss", 0.5, 1)]
    assert task.rows("select key, value from params") == [("train.steps", "3")]
    kept = task.objects()
    (scores,) = (content for key, content in kept.items() if key.endswith(f"{run.id}/artifacts/reports/scores.json"))
    assert scores == b'{"miou": 87.5}'
    assert any("/images/" in key and key.endswith(".png") for key in kept)
    page = run_page(run.id)
    assert page is not None and page.startswith(f"{task.url}/#/experiments/")


def test_a_model_is_registered_and_comes_back_whole(task, tmp_path):
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(os.urandom(20_000_000))  # several parts of an upload
    client = connect()
    with open_run("mlflow", experiment="city") as run:
        experiment = client.get_run(run.id).info.experiment_id
    logged = client.create_logged_model(experiment, name="mobanet", source_run_id=run.id)
    client.log_model_artifacts(logged.model_id, str(weights.parent))
    client.finalize_logged_model(logged.model_id, "READY")
    registry = Registry(client, "city")
    version = registry.add(logged.model_id, run.id, {"sha256": "a" * 64})
    registry.promote(version, ())
    assert registry.find("a" * 64) == registry.champion() == version
    assert task.rows("select alias, version from registered_model_aliases") == [("champion", int(version))]
    back = mlflow.artifacts.download_artifacts("models:/city@champion", dst_path=str(tmp_path / "back"))
    assert (Path(back) / weights.name).read_bytes() == weights.read_bytes()
    assert weights.read_bytes() in task.objects().values()


def test_the_pages_are_there_for_the_names_of_the_manifest_alone(server):
    assert requests.get(server.url, timeout=10).ok
    port = server.url.rsplit(":", 1)[1]
    for host, status in ((f"mobanet-mlflow:{port}", 200), ("elsewhere.example.org", 403)):
        assert requests.get(server.url, headers={"Host": host}, timeout=10).status_code == status


def test_it_keeps_to_its_memory_and_writes_nothing_but_temporary_files(server):
    whole = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    used = sum(process.memory_full_info().uss for process in whole)
    assert used < parse_quantity(container()["resources"]["limits"]["memory"])
    assert list((server.folder / "root").iterdir()) == []
