"""The register step against a team's MLflow: accounts, PostgreSQL, S3, and what happens when one of them fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import replace

import mlflow
import pytest
import sqlalchemy

from components.common.entrypoints.dvc import exit_code
from components.common.errors import MobanetError, TrackingError
from components.register.history.registry import Registry
from components.register.inspection.collection import collect
from components.register.step import RegisterResult, run
from tests.components.conftest import package, trained  # noqa: F401
from tests.components.register.variants import CONFIG, sealed
from tests.e2e.conftest import BIN
from tests.servers import NEEDED, TeamServers, database_uri, small_disk

pytestmark = [pytest.mark.system, NEEDED]
SMALL_DISK = pytest.mark.skipif(os.getuid() != 0, reason="only root can create a small disk")

MLFLOW_2_9 = "acf3f17fdcc7"
"""Revision of the tables of MLflow 2.9, of November 2023."""


@pytest.fixture
def register(package, tmp_path, monkeypatch):  # noqa: F811
    """Registers a package that only this test has, as a model of the test's name."""
    monkeypatch.chdir(tmp_path)
    name = f"city.{tmp_path.name}"[:100]
    folder = tmp_path / "package"
    shutil.copytree(package, folder)
    (folder / "README.md").write_text(name)
    sealed(folder)
    (tmp_path / "run.json").write_text('{"mlflow_run_id": null}')

    def call() -> RegisterResult:
        return run(replace(CONFIG, model_name=name), folder, tmp_path / "run.json", tmp_path / "registration.json")

    call.name, call.folder = name, folder
    return call


def registry(name: str) -> Registry:
    return Registry(mlflow.MlflowClient(), name)


def usable(name: str) -> dict[str, str]:
    """Alias -> version, after a check that every version can be used and nothing else is left of an upload."""
    found = registry(name)
    assert [version.number for version in found.versions()] == ["1"]
    assert collect(found, delete=True, min_age_h=0) == ()
    return found.aliases()


def failure(register) -> str:
    """The one sentence of a registration that fails."""
    with pytest.raises(MobanetError) as caught:
        register()
    sentence = str(caught.value)
    assert "\n" not in sentence and "Traceback" not in sentence
    return sentence


def test_a_package_becomes_the_champion_with_all_its_files_in_the_bucket(task: TeamServers, register):
    result = register()
    assert (result.version, result.promoted) == ("1", True)
    query = f"select alias, version from registered_model_aliases where name = '{register.name}' order by alias"
    assert ("champion", 1) in task.rows(query)
    kept = list(task.objects().values())
    for path in register.folder.iterdir():
        assert path.read_bytes() in kept, path.name
    assert usable(register.name)["champion"] == "1"
    again = register()
    assert (again.version, again.created) == ("1", False)


def test_a_wrong_password_is_reported_with_the_variable_to_correct(task, register, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not the password")
    sentence = failure(register)
    assert "MLFLOW_TRACKING_PASSWORD" in sentence and "not the password" not in sentence


def test_a_registration_succeeds_on_a_slow_store_that_is_often_busy(task, register):
    task.network.share, task.network.kinds, task.network.delay_s = 0.25, ("busy", "dropped"), 0.1
    try:
        result = register()
    finally:
        task.network.share, task.network.delay_s = 0.0, 0.0
    assert result.promoted and sum(task.network.done.values()) > 0
    assert usable(register.name)["champion"] == "1"


@pytest.mark.parametrize("fault", ["busy", pytest.param("full", marks=SMALL_DISK)])
def test_a_store_that_takes_no_file_is_reported_and_leaves_no_version(task, register, monkeypatch, fault):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    if fault == "full":
        with task.full_disk():
            sentence = failure(register)
    else:
        task.network.share, task.network.kinds = 1.0, ("busy",)
        try:
            sentence = failure(register)
        finally:
            task.network.share = 0.0
    assert task.url in sentence and "space" in sentence and "register again" in sentence
    assert registry(register.name).versions() == []
    left = collect(registry(register.name), delete=True, min_age_h=0)
    assert [(item.kind, item.action) for item in left] == [("upload", "deleted")]
    assert register().promoted
    assert usable(register.name)["champion"] == "1"


def test_a_server_that_restarts_during_the_upload_leaves_nothing_unusable(task, register):
    before = len(task.objects())

    def restart() -> None:
        end = time.monotonic() + 60
        while len(task.objects()) == before and time.monotonic() < end:
            time.sleep(0.02)
        task.stop_mlflow()
        task.services.start_mlflow()

    restarting = threading.Thread(target=restart)
    restarting.start()
    try:
        register()
    except TrackingError as error:
        assert "\n" not in str(error)
    restarting.join()
    assert register().champion == "1"
    collect(registry(register.name), delete=True, min_age_h=0)
    assert usable(register.name)["champion"] == "1"


@SMALL_DISK
def test_a_full_temporary_folder_is_reported_and_the_same_command_completes_the_version(
    task, register, tmp_path, monkeypatch, capsys
):
    with small_disk(tmp_path / "small", size_mb=1), monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "small"))
        code = exit_code(register)
    (sentence,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert code in (2, 75) and "space" in sentence
    assert registry(register.name).aliases() == {}
    assert register().promoted
    assert usable(register.name)["champion"] == "1"


@pytest.fixture
def old_tables(services, monkeypatch, tmp_path):
    """Tables of MLflow 2.9 in a database of their own, with a version of a model."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    settings = services.accounts.of_postgres()
    with sqlalchemy.create_engine(database_uri(settings), isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(sqlalchemy.text("create database old"))
    uri = database_uri(settings | {"PGDATABASE": "old"})
    address = uri.render_as_string(hide_password=False)
    engine = sqlalchemy.create_engine(uri)
    Base.metadata.create_all(engine)
    command.upgrade(_get_alembic_config(address), MLFLOW_2_9)
    with engine.begin() as connection:
        for statement in (
            "insert into experiments (experiment_id, name, artifact_location, lifecycle_stage) "
            f"values (0, 'Default', '{tmp_path}', 'active')",
            "insert into registered_models (name, creation_time) values ('roofs', 1700000000000)",
            "insert into model_versions (name, version, creation_time, current_stage, status, source) "
            f"values ('roofs', 1, 1700000000000, 'None', 'READY', '{tmp_path}')",
        ):
            connection.execute(sqlalchemy.text(statement))
    engine.dispose()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    mlflow.set_tracking_uri(None)
    return address


def test_tables_of_mlflow_2_9_are_upgraded_and_used(old_tables, register):
    subprocess.run([BIN / "mlflow", "db", "upgrade", old_tables], check=True, capture_output=True)
    assert register().promoted
    assert usable(register.name)["champion"] == "1"
    assert [version.number for version in registry("roofs").versions()] == ["1"]
