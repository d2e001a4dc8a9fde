"""Random sequences of registry commands on PostgreSQL and on a team's server, with kills, races, changes by hand."""

from __future__ import annotations

import json
import os
import secrets
import traceback

import mlflow
import pytest

from components.common.tracking.server import connect
from components.register.history import alias_changes
from tests.e2e.conftest import free_port
from tests.e2e.registry_sequences import Sequence
from tests.servers import NEEDED, database_uri, postgres

SEQUENCES, COMMANDS, WORKERS = 200, 4, 2
ON_A_SERVER = 2
FIRST_SEED = int(os.environ.get("MOBANET_SEED", "0"))
pytestmark = [pytest.mark.system, NEEDED]


@pytest.fixture(autouse=True)
def little_grace(monkeypatch):
    """Sequences wait only as long as the slowest process of a race."""
    monkeypatch.setattr(alias_changes, "GRACE_S", 0.02)


@pytest.fixture
def database(monkeypatch):
    """A client of MLflow's tables in an empty PostgreSQL."""
    settings = {"PGHOST": "127.0.0.1", "PGPORT": str(free_port()), "PGUSER": "mlflow", "PGDATABASE": "mlflow"}
    settings["PGPASSWORD"] = secrets.token_hex()
    with postgres(settings):
        uri = database_uri(settings).render_as_string(hide_password=False)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(None)
        yield mlflow.MlflowClient()


def forget_connections(client) -> None:
    """Open new connections in a process that was forked; those of its parent stay open."""
    for store in (client._get_registry_client().store, client._tracking_client.store):
        if hasattr(store, "engine"):  # HTTP clients have sessions per process
            store.engine.dispose(close=False)


def play(client, seeds, model_id) -> list[dict]:
    """Run sequences; returns the failures."""
    failures = []
    for seed in seeds:
        sequence = Sequence(client, f"city.{seed}", seed, model_id, lambda: forget_connections(client))
        try:
            sequence.run(COMMANDS)
        except Exception:
            failures.append({"seed": seed, "commands": sequence.log, "error": traceback.format_exc()})
    return failures


def logged_model(client) -> str:
    """Id of a model without files, from which all versions are made."""
    return client.create_logged_model(client.create_experiment("city"), name="sequence").model_id


def report(failures: list[dict]) -> str:
    first = failures[0] if failures else {"seed": None, "commands": [], "error": ""}
    return "\n".join(
        [f"{len(failures)} sequences failed; MOBANET_SEED={first['seed']} repeats the first one:", *first["commands"]]
        + [first["error"]]
    )


def test_200_random_sequences_keep_one_champion_and_a_complete_history(database, tmp_path):
    model_id = logged_model(database)
    workers = {}
    for rank in range(WORKERS):
        seeds, path = range(FIRST_SEED + rank, FIRST_SEED + SEQUENCES, WORKERS), tmp_path / f"{rank}.json"
        pid = os.fork()
        if pid == 0:
            try:
                forget_connections(database)
                path.write_text(json.dumps(play(database, seeds, model_id)))
            finally:
                os._exit(0)
        workers[pid] = path
    for pid in workers:
        os.waitpid(pid, 0)
    failures = [failure for path in workers.values() for failure in json.loads(path.read_text())]
    assert not failures, report(failures)


def test_random_sequences_keep_one_champion_on_a_server_with_accounts(task):
    client = connect()
    failures = play(client, range(FIRST_SEED, FIRST_SEED + ON_A_SERVER), logged_model(client))
    assert not failures, report(failures)
