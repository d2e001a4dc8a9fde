"""The servers of a team, as `make services` starts them, with a faulty network between MLflow and the S3 store."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy

from pipeline.services import postgres as cluster
from pipeline.services import processes
from pipeline.services.accounts import BUCKET, Accounts
from pipeline.services.local_servers import MLFLOW, Services
from tests.e2e.faulty_proxy import FaultyProxy

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
NEEDED = pytest.mark.skipif(not PROGRAMS, reason="PostgreSQL is not installed: apt-get install postgresql")
ANY_PORTS = (0, 0, 0)
FAST = "-c fsync=off"
DISK_MB = 96


@dataclass(frozen=True)
class S3:
    """The S3 store: port, key and secret."""

    port: int
    key: str
    secret: str


class TeamServers:
    """MLflow on PostgreSQL with accounts, and an S3 store with a key. The store's disk has 96 MB if a test is root."""

    def __init__(self, folder: Path) -> None:
        self.services = Services(folder, ports=ANY_PORTS, postgres_options=FAST)
        self.accounts = self.services.accounts
        self.s3 = S3(self.accounts.s3_port, self.accounts.s3_key, self.accounts.s3_secret)
        self.url, self.username, self.password = self.accounts.url, self.accounts.username, self.accounts.password
        self.network = FaultyProxy(self.s3.port, share=0.0, seed=0)  # between MLflow and S3; healthy until a test asks
        self.services.s3_url = self.network.url

    def environment(self) -> dict[str, str]:
        """Variables of a client."""
        return self.accounts.of_clients()

    def rows(self, query: str) -> list[tuple]:
        """Rows of MLflow's tables."""
        engine = sqlalchemy.create_engine(database_uri(self.accounts.of_postgres()))
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sqlalchemy.text(query))]

    def objects(self) -> dict[str, bytes]:
        """Key -> content of MLflow's files in the bucket."""
        bucket = self.services.buckets / BUCKET
        return {str(p.relative_to(bucket)): p.read_bytes() for p in bucket.rglob("*") if p.is_file()}

    def stop_mlflow(self) -> None:
        """End MLflow, as a restart of its pod does."""
        processes.stop(self.services.folder, MLFLOW)

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """No space is left on the disk of the S3 store."""
        ballast = self.services.buckets / "ballast"
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=64k"], capture_output=True)
        try:
            yield
        finally:
            ballast.unlink()


@contextmanager
def team_servers(folder: Path) -> Iterator[TeamServers]:
    """Servers with empty tables and an empty bucket."""
    servers = TeamServers(folder)
    try:
        with small_disk(servers.services.buckets), servers.network:
            servers.services.start()
            try:
                yield servers
            finally:
                servers.services.stop()
    finally:
        shutil.rmtree(servers.accounts.cluster, ignore_errors=True)


@contextmanager
def small_disk(folder: Path, size_mb: int = DISK_MB) -> Iterator[None]:
    """A disk of its own at a folder; nothing happens unless the test is root."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.getuid() != 0:
        yield
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def postgres(settings: dict[str, str]) -> Iterator[None]:
    """PostgreSQL alone, with one user and one empty database."""
    folder = Path(tempfile.mkdtemp(prefix="mobanet-test-", dir="/var/tmp"))
    given = dict.fromkeys(("username", "password", "s3_key", "s3_secret", "form_key"), "")
    port, password = int(settings["PGPORT"]), settings["PGPASSWORD"]
    place = str(cluster.cluster_folder(folder))
    accounts = Accounts(
        mlflow_port=0, postgres_port=port, s3_port=0, postgres_password=password, cluster=place, **given
    )
    try:
        cluster.start(accounts, FAST)
        try:
            yield
        finally:
            cluster.stop(accounts)
    finally:
        for path in (place, folder):
            shutil.rmtree(path, ignore_errors=True)


def database_uri(settings: dict[str, str]) -> sqlalchemy.URL:
    """Address of PostgreSQL with the password, for SQLAlchemy."""
    given = {"host": "PGHOST", "port": "PGPORT", "database": "PGDATABASE", "username": "PGUSER"}
    values = {name: settings[key] for name, key in {**given, "password": "PGPASSWORD"}.items()}
    return sqlalchemy.URL.create("postgresql+psycopg", **values)
