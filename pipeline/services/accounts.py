"""Ports, accounts and passwords of the local servers: generated once, then read from a file that only you can read."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from components.common.errors import MobanetError

FILE = "accounts.json"
BUCKET = "mlflow"
"""Bucket of MLflow's files."""

PORTS = (5000, 5433, 9000)
"""Ports of MLflow, PostgreSQL and S3, unless others use them."""


class ServicesError(MobanetError):
    """A local server is missing, cannot start, or its files are damaged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accounts:
    """What the servers and their clients must agree on."""

    mlflow_port: int
    postgres_port: int
    s3_port: int
    username: str  # MLflow's administrator
    password: str
    postgres_password: str
    s3_key: str
    s3_secret: str
    form_key: str  # signs the forms of MLflow's pages
    cluster: str  # folder of PostgreSQL's files

    @property
    def url(self) -> str:
        """Address of MLflow."""
        return f"http://localhost:{self.mlflow_port}"

    def of_clients(self) -> dict[str, str]:
        """Environment variables of a client of MLflow."""
        return {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": self.username,
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }

    def of_postgres(self) -> dict[str, str]:
        """Environment variables of a client of PostgreSQL."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.postgres_port),
            "PGDATABASE": "mlflow",
            "PGUSER": "mlflow",
            "PGPASSWORD": self.postgres_password,
        }

    def secrets(self, s3_url: str) -> Mapping[str, dict[str, str]]:
        """Content of the two secrets that the manifests read."""
        return {
            "mobanet": self.of_clients()
            | {
                "AWS_ENDPOINT_URL": s3_url,
                "AWS_ACCESS_KEY_ID": self.s3_key,
                "AWS_SECRET_ACCESS_KEY": self.s3_secret,
            },
            "mobanet-mlflow": self.of_postgres()
            | {"MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}", "MLFLOW_FLASK_SERVER_SECRET_KEY": self.form_key},
        }


def accounts(folder: Path, cluster: Path, ports: tuple[int, int, int] = PORTS) -> Accounts:
    """The accounts in this folder; they are generated at the first call.

    Args:
        folder: folder of the servers' state; it must exist.
        cluster: folder for PostgreSQL's files, used at the first call.
        ports: ports of MLflow, PostgreSQL and S3, used at the first call if they are free; 0: any free port.

    Raises:
        ServicesError: the file of the accounts is damaged.
    """
    path = folder / FILE
    if path.exists():
        try:
            return Accounts(**json.loads(path.read_text()))
        except (ValueError, TypeError):
            raise ServicesError(f"{path}: damaged; run `make services-stop`, then delete the folder {folder}") from None
    mlflow_port, postgres_port, s3_port = free_ports(*ports)
    made = Accounts(
        mlflow_port=mlflow_port,
        postgres_port=postgres_port,
        s3_port=s3_port,
        username="mobanet",
        password=secrets.token_hex(16),
        postgres_password=secrets.token_hex(16),
        s3_key=secrets.token_hex(8),
        s3_secret=secrets.token_hex(16),
        form_key=secrets.token_hex(16),
        cluster=str(cluster),
    )
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        json.dump(asdict(made), file, indent=2)
    return made


def free_ports(*preferred: int) -> tuple[int, ...]:
    """Free ports of this machine, the preferred ones if possible; 0 prefers none."""
    sockets, found = [], []
    for port in preferred:
        probe = socket.socket()
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        sockets.append(probe)
        found.append(int(probe.getsockname()[1]))
    for probe in sockets:
        probe.close()
    return tuple(found)
