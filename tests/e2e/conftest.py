from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(port: int, seconds: float = 10) -> None:
    """Until something listens on a port of this machine."""
    for _ in range(int(seconds * 10)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")


@contextmanager
def s3_server(folder: Path, key: str, secret: str) -> Iterator[int]:
    """Port of an S3 server that knows one key; a bucket is a folder in `folder`."""
    port = free_port()
    command = [BIN / "rclone", "serve", "s3", "--auth-key", f"{key},{secret}", "--addr", f"127.0.0.1:{port}", folder]
    env = os.environ | {"RCLONE_CONFIG": os.devnull}
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(port)
            yield port
        finally:
            process.terminate()


class Project:
    """A copy of the project in a folder of its own, with its doors."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        self.env.pop("MLFLOW_TRACKING_URI", None)

    def call(self, *command: str, **options) -> subprocess.CompletedProcess:
        return subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True, **options)

    def step(self, name: str, *arguments: str) -> subprocess.CompletedProcess:
        return self.call("python", "-m", f"components.{name}", *arguments)

    def change_params(self, changes: dict) -> None:
        path = self.root / "params.yaml"
        path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), changes)))


def merged(old: dict, changes: dict) -> dict:
    return old | {k: merged(old[k], v) if isinstance(v, dict) and k in old else v for k, v in changes.items()}


def copy_project(target: Path) -> Project:
    """Every file that a commit of the working tree would hold."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    project = Project(target)
    for command in (["git", "init", "-q"], ["git", "add", "-A"]):
        project.call(*command, check=True)
    project.call("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "Start", check=True)
    return project


TINY = {
    "sample": {"side_px": 256},
    "preprocess": {"workers": 2},
    "model": {"backbone": "test_vit", "decoder_channels": 16},
    "train": {
        "steps": 4,
        "warmup_steps": 1,
        "batch_size": 2,
        "crop_px": 64,
        "validation": {"every_steps": 4, "stride_px": 64, "pictures": 1},
    },
    "evaluate": {"stride_px": 64, "panel_px": 128},
    "export": {"formats": ["onnx"]},
    "register": {"min_expected_miou": 0.0, "require_clean_commit": False},  # four steps, and these parameters
    "runtime": {"checkpoint_every_steps": 1, "log_every_steps": 1},
}


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory) -> Project:
    """A copy of the project with parameters that take seconds; raw tiles and store are there."""
    project = copy_project(tmp_path_factory.mktemp("project"))
    project.change_params(TINY)
    for step in ("acquire", "preprocess"):
        done = project.step(step)
        assert done.returncode == 0, done.stderr
    return project


@pytest.fixture(scope="session")
def services(tmp_path_factory):
    """The servers of a team: MLflow with accounts on PostgreSQL, and an S3 store."""
    from tests.servers import team_servers

    with team_servers(tmp_path_factory.mktemp("services")) as servers:
        yield servers


@pytest.fixture
def task(services, monkeypatch):
    """The servers, and this process as a task of the graph: it knows an account of MLflow, and no key of S3."""
    import mlflow

    for name in ("MLFLOW_RUN_ID", "MLFLOW_REGISTRY_URI", *(name for name in os.environ if name.startswith("AWS_"))):
        monkeypatch.delenv(name, raising=False)
    for name, value in services.environment().items():
        monkeypatch.setenv(name, value)
    mlflow.set_tracking_uri(None)
    return services
