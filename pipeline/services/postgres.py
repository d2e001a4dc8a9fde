"""PostgreSQL from Debian's package: a cluster of its own with one user and one database.

PostgreSQL refuses to run as root. For root it runs as the user `postgres`, with its files in a folder that this user
can reach.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from pipeline.services.accounts import Accounts, ServicesError


def programs() -> Path:
    """Folder of PostgreSQL's programs, of the newest version.

    Raises:
        ServicesError: PostgreSQL is not installed.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not found and (program := shutil.which("initdb")):
        found = [Path(program).resolve()]
    if not found:
        raise ServicesError("PostgreSQL is not installed; run `apt-get install postgresql`, then this command again")
    return found[-1].parent


def cluster_folder(folder: Path) -> Path:
    """New folder for the files of a cluster: in `folder`, or for root where the user `postgres` can reach it."""
    user = _user()
    if user is None:
        made = folder / "postgres"
        made.mkdir(exist_ok=True)
    else:
        made = Path(tempfile.mkdtemp(prefix="mobanet-postgres-", dir="/var/tmp"))
        shutil.chown(made, user)
    return made


def running(accounts: Accounts) -> bool:
    """Whether the cluster runs."""
    if not Path(accounts.cluster).is_dir():
        return False
    done = subprocess.run([*_control(accounts), "status"], **_call(accounts, check=False))
    return done.returncode == 0


def start(accounts: Accounts, options: str = "") -> None:
    """Start the cluster, unless it runs; create it and its database, unless they exist.

    Args:
        accounts: port, password and folder.
        options: more options of the server, for example `-c fsync=off`.

    Raises:
        ServicesError: it cannot be created or started.
    """
    if running(accounts):
        return
    folder = Path(accounts.cluster)
    if not folder.is_dir():
        raise ServicesError(
            f"{folder}: PostgreSQL's files are missing; run `make services-stop`, delete the folder .services with all "
            "its data, then run `make services` again"
        )
    settings = f"-p {accounts.postgres_port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' {options}"
    try:
        if not (folder / "data/PG_VERSION").exists():
            _create(accounts)
        subprocess.run([*_control(accounts), "-w", "-l", folder / "log", "-o", settings, "start"], **_call(accounts))
        look = subprocess.run([programs() / "psql", "--no-password", "-c", ""], **_call(accounts, check=False))
        if look.returncode != 0:
            subprocess.run([programs() / "createdb"], **_call(accounts))
    except subprocess.CalledProcessError:
        raise ServicesError(f"PostgreSQL cannot start; its messages are in {folder / 'log'}") from None


def stop(accounts: Accounts) -> bool:
    """Stop the cluster. Returns whether it was running.

    Raises:
        ServicesError: it does not stop.
    """
    if not running(accounts):
        return False
    done = subprocess.run([*_control(accounts), "-m", "fast", "-w", "stop"], **_call(accounts, check=False))
    if done.returncode != 0:
        raise ServicesError(f"PostgreSQL does not stop; its messages are in {Path(accounts.cluster) / 'log'}")
    return True


def _create(accounts: Accounts) -> None:
    folder = Path(accounts.cluster)
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(accounts.postgres_password)
    if user := _user():
        shutil.chown(password, user)
    owner = ("-U", accounts.of_postgres()["PGUSER"], "--auth=scram-sha-256", f"--pwfile={password}")
    try:
        place = ("-D", str(folder / "data"), "--encoding=UTF8", "--locale=C.UTF-8")
        call = _call(accounts, check=False) | {"stderr": subprocess.PIPE, "text": True}
        done = subprocess.run([programs() / "initdb", *place, *owner], **call)
        if done.returncode != 0:
            why = next((line for line in done.stderr.splitlines() if "error:" in line), "it gives no reason")
            raise ServicesError(f"PostgreSQL cannot create its files in {folder}: {why}")
    finally:
        password.unlink()


def _control(accounts: Accounts) -> list[Path | str]:
    return [programs() / "pg_ctl", "-D", Path(accounts.cluster) / "data"]


def _call(accounts: Accounts, *, check: bool = True) -> dict[str, Any]:
    """Arguments of `subprocess.run` for PostgreSQL's programs."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"} | accounts.of_postgres()
    return {"user": _user(), "cwd": accounts.cluster, "check": check, "env": env, **quiet}


def _user() -> str | None:
    """User of PostgreSQL's processes; None: the caller."""
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise ServicesError(
            "there is no user postgres, and PostgreSQL refuses to run as root; start the services as another user, or "
            "install Debian's package postgresql"
        ) from None
