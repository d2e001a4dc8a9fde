"""pipeline/services/postgres.py: a cluster whose creation was interrupted, and one whose files are gone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.services import postgres
from pipeline.services.accounts import ServicesError, accounts
from tests.servers import ANY_PORTS, FAST, NEEDED

pytestmark = NEEDED


@pytest.fixture
def cluster(tmp_path):
    """Accounts of a cluster that does not exist yet."""
    made = accounts(tmp_path, postgres.cluster_folder(tmp_path), ANY_PORTS)
    yield made
    postgres.stop(made)
    shutil.rmtree(made.cluster, ignore_errors=True)


def test_a_database_that_an_interrupted_start_left_out_is_created_by_the_next_one(cluster):
    postgres.start(cluster, FAST)
    subprocess.run([postgres.programs() / "dropdb", "mlflow"], **postgres._call(cluster))
    assert postgres.stop(cluster) and not postgres.stop(cluster)
    postgres.start(cluster, FAST)
    subprocess.run([postgres.programs() / "psql", "-c", "SELECT 1"], **postgres._call(cluster))


def test_missing_files_are_reported_with_what_to_do(cluster):
    shutil.rmtree(cluster.cluster)
    with pytest.raises(ServicesError, match="PostgreSQL's files are missing; run `make services-stop`"):
        postgres.start(cluster)
    assert postgres.stop(cluster) is False


def test_a_cluster_that_cannot_be_created_is_reported_with_the_reason(cluster):
    data = Path(cluster.cluster) / "data"
    data.mkdir()
    (data / "x").touch()
    with pytest.raises(ServicesError, match="cannot create its files in .*: initdb: error: directory"):
        postgres.start(cluster)
