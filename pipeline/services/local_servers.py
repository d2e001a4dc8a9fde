"""Start and stop the servers of a team on this machine: PostgreSQL, an S3 store, and MLflow with accounts.

They run until they are stopped. What they store stays in their folder and is there again after the next start.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.services import deployed, postgres, processes
from pipeline.services.accounts import BUCKET, FILE, PORTS, Accounts, ServicesError, accounts

MLFLOW, S3 = "mlflow", "s3"


class Services:
    """The servers whose state is in one folder."""

    def __init__(self, folder: Path, *, ports: tuple[int, int, int] = PORTS, postgres_options: str = "") -> None:
        """Read the accounts of the servers, or create them.

        Args:
            folder: folder of their state; it is created.
            ports: ports of MLflow, PostgreSQL and S3, used when their accounts are created; 0: any free port.
            postgres_options: more options of PostgreSQL's server.
        """
        self.folder = folder.resolve()
        self.postgres_options = postgres_options
        self.programs = {name: _program(name) for name in ("mlflow", "rclone")}
        postgres.programs()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = (self.folder / FILE).exists()
        cluster = Path() if known else postgres.cluster_folder(self.folder)
        self.accounts: Accounts = accounts(self.folder, cluster, ports)
        self.s3_url = f"http://localhost:{self.accounts.s3_port}"
        """Address at which MLflow reaches the S3 store."""

    @property
    def buckets(self) -> Path:
        """Folder of the S3 store; a bucket is a folder in it."""
        return self.folder / "buckets"

    def start(self) -> None:
        """Start the servers that are not running.

        Raises:
            ServicesError: a server cannot start.
        """
        postgres.start(self.accounts, self.postgres_options)
        self.start_s3()
        self.start_mlflow()

    def stop(self) -> list[str]:
        """Stop the servers; returns the names of those that were running."""
        stopped = [name for name in (MLFLOW, S3) if processes.stop(self.folder, name)]
        return [*stopped, *(["postgresql"] if postgres.stop(self.accounts) else [])]

    def start_s3(self) -> None:
        """Start the S3 store unless it runs; create the bucket of MLflow."""
        (self.buckets / BUCKET).mkdir(parents=True, exist_ok=True)
        given = self.accounts
        command = [self.programs["rclone"], "serve", "s3", "--addr", f"127.0.0.1:{given.s3_port}", str(self.buckets)]
        # in the environment, because other users can see a command line; quoted, because this is a list with commas
        env = processes.clean_environment() | {
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_AUTH_KEY": f'"{given.s3_key},{given.s3_secret}"',
        }
        processes.start(self.folder, S3, command, env, self.folder, lambda: processes.listens(given.s3_port))

    def start_mlflow(self) -> None:
        """Start MLflow unless it runs; create or upgrade its tables before."""
        if processes.running(self.folder, MLFLOW):
            return
        auth_file = self.folder / deployed.AUTH_CONFIG
        auth_file.write_text(deployed.auth_config())
        work, temporary = self.folder / "work", self.folder / "tmp"  # MLflow writes nothing into the first one
        for path in (work, temporary):
            path.mkdir(exist_ok=True)
        env = processes.clean_environment() | deployed.environment(self.accounts.secrets(self.s3_url), auth_file)
        env |= {"HOME": str(temporary), "TMPDIR": str(temporary)}
        log = self.folder / f"{MLFLOW}.log"
        with log.open("ab") as output:
            upgrade = subprocess.run(
                self._local(deployed.upgrade_command()), env=env, cwd=work, stdout=output, stderr=output
            )
        if upgrade.returncode != 0:
            raise ServicesError(f"MLflow cannot create or upgrade its tables; its messages are in {log}")
        command = self._local(deployed.command(self.accounts.mlflow_port))
        processes.start(self.folder, MLFLOW, command, env, work, lambda: processes.healthy(self.accounts.mlflow_port))

    def _local(self, command: list[str]) -> list[str]:
        return [self.programs[command[0]], *command[1:]]


def _program(name: str) -> str:
    """Path of a program of the project's environment.

    Raises:
        ServicesError: it is not installed.
    """
    folder = Path(sys.executable).parent
    found = shutil.which(name, path=str(folder)) or shutil.which(name)
    if found is None:
        raise ServicesError(f"{name} is not installed; run `make setup`, then the same command again")
    return found
