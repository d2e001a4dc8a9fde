"""Prism as a proxy between the command and a server: it rejects requests and answers that violate the contract."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

CONTRACT = Path(__file__).parents[4] / "shared/contracts/kfp_api_v2beta1.swagger.json"
START_S = 60
UNKNOWN_PATH = "NO_PATH_MATCHED_ERROR"


@dataclass
class Prism:
    """A running Prism."""

    host: str
    log: Path

    def violations(self):
        """Contract violations since the last call: the log up to a request that marks the end."""
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{self.host}/end")
        deadline = time.monotonic() + START_S
        while not (found := re.findall(r"prism/errors#(\w+)", self.log.read_text()))[-1:] == [UNKNOWN_PATH]:
            assert time.monotonic() < deadline, "Prism does not write its log"
            time.sleep(0.05)
        self.log.write_text("")
        return found[:-1]


@contextmanager
def guarding(server, log):
    """Prism in front of a server, on a separate port."""
    prism = os.environ.get("PRISM") or shutil.which("prism")
    if prism is None:
        pytest.fail("Prism is missing: `npm install @stoplight/prism-cli@5`, then put it on PATH or name it in PRISM")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [prism, "proxy", "--errors", "--host", "127.0.0.1", "--port", str(port), str(CONTRACT), server]
    with log.open("a") as out:  # appending, so that it can be emptied
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_S
        while "Prism is listening" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"Prism has not started: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield Prism(f"http://127.0.0.1:{port}", log)
    finally:
        process.terminate()
        process.wait(timeout=30)
