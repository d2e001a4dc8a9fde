"""200 random sequences of registry commands on PostgreSQL, with kills, races and changes by hand."""

from __future__ import annotations

import json
import os
import secrets
import traceback

import mlflow
import pytest

from components.register import alias_changes
from tests.e2e.conftest import free_port
from tests.e2e.registry_sequences import Sequence
from tests.servers import PROGRAMS, postgres

SEQUENCES, COMMANDS, WORKERS = 200, 6, 2
FIRST_SEED = int(os.environ.get("MOBANET_SEED", "0"))
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not PROGRAMS, reason="PostgreSQL is not installed: apt-get install postgresql"),
]


@pytest.fixture
def database(monkeypatch):
    """A client of MLflow's tables in an empty PostgreSQL."""
    settings = {"PGHOST": "127.0.0.1", "PGPORT": str(free_port()), "PGUSER": "mlflow", "PGDATABASE": "mlflow"}
    settings["PGPASSWORD"] = secrets.token_hex()
    monkeypatch.setattr(alias_changes, "GRACE_S", 0.02)
    with postgres(settings):
        uri = "postgresql+psycopg://{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**settings)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        yield mlflow.MlflowClient()
        mlflow.set_tracking_uri(None)


def forget_connections(client) -> None:
    """Open new connections in a process that was forked; those of its parent stay open."""
    client._get_registry_client().store.engine.dispose(close=False)
    client._tracking_client.store.engine.dispose(close=False)


def play(client, seeds, model_id, path) -> None:
    """Run sequences, and write the failures to a file."""
    failures = []
    for seed in seeds:
        sequence = Sequence(client, f"city.{seed}", seed, model_id, lambda: forget_connections(client))
        try:
            sequence.run(COMMANDS)
        except Exception:
            failures.append({"seed": seed, "commands": sequence.log, "error": traceback.format_exc()})
    path.write_text(json.dumps(failures, indent=1))


def test_200_random_sequences_keep_one_champion_and_a_complete_history(database, tmp_path):
    experiment = database.create_experiment("city")
    model_id = database.create_logged_model(experiment, name="mobanet").model_id
    workers = {}
    for rank in range(WORKERS):
        seeds, path = range(FIRST_SEED + rank, FIRST_SEED + SEQUENCES, WORKERS), tmp_path / f"{rank}.json"
        pid = os.fork()
        if pid == 0:
            try:
                forget_connections(database)
                play(database, seeds, model_id, path)
            finally:
                os._exit(0)
        workers[pid] = path
    for pid in workers:
        os.waitpid(pid, 0)
    failures = [failure for path in workers.values() for failure in json.loads(path.read_text())]
    assert not failures, "\n".join(
        [f"{len(failures)} sequences failed; the first one, with seed {failures[0]['seed']}:"]
        + [*failures[0]["commands"], failures[0]["error"]]
    )
