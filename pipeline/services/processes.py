"""Server processes that outlive the command that started them; a file per server records the process."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from pipeline.services.accounts import ServicesError

PATIENCE_S = 180
"""Time that a server has to start, seconds."""


def start(
    folder: Path, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path, ready: Callable[[], bool]
) -> subprocess.Popen[bytes] | None:
    """Start a server in the background and wait until it answers; None: it is running already.

    Args:
        folder: folder for its log and the record of its process.
        name: name of the server.
        command: its command line.
        env: its environment variables.
        cwd: its current folder.
        ready: whether it answers.

    Raises:
        ServicesError: it ends, does not answer in time, or another program uses its port.
    """
    if running(folder, name):
        return None
    if ready():
        raise ServicesError(
            f"another program uses the port of {name}; stop it, or delete {folder} with all its data so that "
            "`make services` chooses other ports"
        )
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command), env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    record = {"pid": process.pid, "started": psutil.Process(process.pid).create_time()}
    (folder / f"{name}.json").write_text(json.dumps(record))
    try:
        wait(ready, process, name, log)
    except ServicesError:
        stop(folder, name)
        raise
    return process


def wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], name: str, log: Path) -> None:
    """Wait until a server answers.

    Raises:
        ServicesError: it ends, or does not answer in time.
    """
    end = time.monotonic() + PATIENCE_S
    while not ready():
        if process.poll() is not None:
            raise ServicesError(f"{name} ended while it started; its messages are in {log}")
        if time.monotonic() > end:
            raise ServicesError(f"{name} did not answer within {PATIENCE_S} s; its messages are in {log}")
        time.sleep(0.2)


def running(folder: Path, name: str) -> psutil.Process | None:
    """The process of a server; None: it is not running."""
    try:
        record = json.loads((folder / f"{name}.json").read_text())
        process = psutil.Process(record["pid"])
        same = process.create_time() == record["started"] and process.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
        return None
    return process if same else None


def stop(folder: Path, name: str, patience_s: float = 20) -> bool:
    """End a server and the processes that it started. Returns whether it was running."""
    process = running(folder, name)
    if process is not None:
        end(process, patience_s)
    (folder / f"{name}.json").unlink(missing_ok=True)
    return process is not None


def end(process: psutil.Process, patience_s: float = 20) -> None:
    """End a process and those that it started; after some seconds, kill what is left."""
    try:
        group = [process, *process.children(recursive=True)]
        process.terminate()
    except psutil.NoSuchProcess:
        return
    _, left = psutil.wait_procs(group, patience_s)
    for survivor in left:
        with suppress(psutil.NoSuchProcess):
            survivor.kill()
    psutil.wait_procs(left, patience_s)


def healthy(port: int) -> bool:
    """Whether a web server on a port of this machine answers `/health`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)  # urllib would ask a proxy
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def listens(port: int) -> bool:
    """Whether a server accepts connections on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def clean_environment() -> dict[str, str]:
    """Environment variables of this process without those that configure other servers."""
    foreign = ("AWS_", "MLFLOW_", "PG", "RCLONE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
