"""`mobanet serve` as a process: exchanges of the champion under load, memory, signals, and errors at the start."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml

from components.common.predictors.models import open_model
from components.common.tracking.packages import package_digest, read_record
from components.predict.arrays import predict_arrays
from components.serve.tensors import HEADER
from tests.components.predict.rasters import heights_of, image_of
from tests.components.serve.conftest import PREDICT, toy_package
from tests.e2e.conftest import free_port

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
CLIENTS, SWAPS = 16, 20
REQUESTS = int(os.environ.get("SERVICE_REQUESTS", "2000"))  # 10000 take minutes on two cores
SIDE = 24
SETTINGS = replace(PREDICT, batch_size=1, precision="float32")


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A folder with an MLflow store in which the model mobanet has two versions; version 1 is the champion."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("registry")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    client.create_registered_model("mobanet")
    for number in (1, 2):
        package = toy_package(folder / f"package{number}", seed=number)
        files = read_record(package)["sha256"]
        tags = {"sha256": files["model.safetensors"], "package_sha256": package_digest(files)}
        client.create_model_version("mobanet", str(package), tags=tags)
    client.set_registered_model_alias("mobanet", "champion", "1")
    return folder, client


def params_file(folder: Path, **serve: object) -> Path:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["predict"] |= {name: getattr(SETTINGS, name) for name in ("batch_size", "overlap", "precision")}
    params["serve"] |= {"poll_s": 0.1, "max_body_mb": 4, "max_pixels": 1.0, "timeout_s": 60.0, **serve}
    path = folder / f"params{len(list(folder.glob('params*')))}.yaml"
    path.write_text(yaml.safe_dump(params))
    return path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipeline.cli", "serve", *arguments]


@contextmanager
def running(folder: Path, model: str, **serve: object):
    """Process and port of a service that is ready."""
    port, store = free_port(), f"sqlite:///{folder}/mlflow.db"
    env = os.environ | {"MLFLOW_TRACKING_URI": store, "OMP_NUM_THREADS": "1"}
    arguments = command(model, "--port", str(port), "--params", str(params_file(folder, **serve)))
    log = folder / f"log{port}.txt"
    with log.open("w") as file, subprocess.Popen(arguments, cwd=ROOT, env=env, stderr=file) as process:
        try:
            until = time.monotonic() + 120
            while time.monotonic() < until and process.poll() is None and "/docs" not in log.read_text():
                time.sleep(0.1)
            assert "/docs" in log.read_text(), log.read_text()
            yield process, port, log
        finally:
            process.kill()


def infer_request(image, dsm) -> tuple[bytes, dict[str, str]]:
    tensors = {"image": ("UINT8", image), "dsm": ("FP32", dsm)}
    inputs = [
        {"name": n, "datatype": t, "shape": list(a.shape), "parameters": {"binary_data_size": a.nbytes}}
        for n, (t, a) in tensors.items()
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True, "gsd_m": 0.05}}).encode()
    return head + image.tobytes() + dsm.tobytes(), {HEADER: str(len(head))}


class Client:
    """A connection that stays open."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.request = infer_request(image_of(SIDE, SIDE), heights_of(SIDE, SIDE))

    def health(self) -> dict:
        self.connection.request("GET", "/health")
        return json.loads(self.connection.getresponse().read())

    def infer(self) -> tuple[int, str, bytes]:
        """Status, version and classes of the raster."""
        body, headers = self.request
        self.connection.request("POST", "/v2/models/mobanet/infer", body, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        length = int(answer.headers.get(HEADER, 0))
        return answer.status, answer.headers["X-Model-Version"], content[length : length + SIDE * SIDE]


def classes_of(package: Path) -> bytes:
    """Classes of the raster, computed without the service."""
    with open_model(str(package), torch.device("cpu"), precision=SETTINGS.precision) as predictor:
        return predict_arrays(predictor, SETTINGS, image_of(SIDE, SIDE), heights_of(SIDE, SIDE)).classes_HW.tobytes()


def test_sixteen_clients_notice_no_exchange_and_memory_stays_flat(registry):
    """Every answer has the classes of the version that it names, during 20 exchanges and in thousands of requests."""
    folder, mlflow = registry
    expected = {str(number): classes_of(folder / f"package{number}") for number in (1, 2)}
    assert expected["1"] != expected["2"]
    with running(folder, "models:/mobanet@champion", concurrency=2, queue=CLIENTS) as (process, port, log):
        numbers, wrong, swapped = count(1), [], threading.Event()
        memory = psutil.Process(process.pid)
        measured: list[tuple[int, float]] = []

        def load() -> int:
            client, done = Client(port), 0
            while (number := next(numbers)) <= REQUESTS or not swapped.is_set():
                status, version, classes = client.infer()
                if status != 200 or classes != expected.get(version):
                    wrong.append((status, version))
                if number % 50 == 0:
                    measured.append((number, memory.memory_info().rss / 1e6))
                done += 1
            return done

        def swap() -> float:
            client, started_s = Client(port), time.monotonic()
            for number in range(SWAPS):
                champion = "21"[number % 2]  # every second exchange is a rollback
                mlflow.set_registered_model_alias("mobanet", "champion", champion)
                until = time.monotonic() + 30
                while client.health()["model"]["version"] != champion:
                    assert time.monotonic() < until, client.health()
                    time.sleep(0.05)
            swapped.set()
            return time.monotonic() - started_s

        started_s = time.monotonic()
        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            clients = [pool.submit(load) for _ in range(CLIENTS)]
            swaps_s = pool.submit(swap).result()
            total = sum(client.result() for client in clients)
        seconds = time.monotonic() - started_s
        quarter = np.median([rss for number, rss in measured if number <= total / 4])
        last = np.median([rss for number, rss in measured if number > 3 * total / 4])
        print(f"{total} requests in {seconds:.0f} s, {SWAPS} exchanges in {swaps_s:.0f} s")
        print(f"memory: {quarter:.0f} MB in the first quarter, {last:.0f} MB in the last one")
        assert not wrong and total >= REQUESTS
        assert "Traceback" not in log.read_text()
        assert last < quarter + 60
    mlflow.set_registered_model_alias("mobanet", "champion", "1")


def test_a_signal_ends_the_service_after_the_requests_that_have_begun(registry):
    folder, _ = registry
    with running(folder, str(folder / "package1"), concurrency=1) as (process, port, log):
        with ThreadPoolExecutor(4) as pool:
            clients = [Client(port) for _ in range(4)]
            for client in clients:
                client.health()
                client.request = infer_request(image_of(300, 300), heights_of(300, 300))
            answers = [pool.submit(client.infer) for client in clients]
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert [answer.result()[0] for answer in answers] == [200] * 4
        assert process.wait(60) == 0
        assert log.read_text().rstrip().endswith(": ended")


def test_a_signal_ends_the_command_while_the_model_is_fetched():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        env = os.environ | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        with subprocess.Popen(command("models:/mobanet@champion", "--port", "0"), cwd=ROOT, env=env) as process:
            try:
                silent.accept()
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
            finally:
                process.kill()


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("models:/none@champion", "error: models:/none@champion: not in sqlite:///"),
        ("/nowhere", "error: /nowhere: no model package, because it has no export.json"),
        ("models:/mobanet", "error: models:/mobanet: not a model; use models:/NAME@ALIAS"),
    ],
)
def test_a_model_that_cannot_be_loaded_ends_the_command_with_one_sentence(registry, model, sentence):
    folder, _ = registry
    env = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    found = subprocess.run(command(model, "--port", "0"), cwd=ROOT, env=env, capture_output=True, text=True)
    assert found.returncode == 2 and found.stderr.startswith(sentence) and found.stderr.count("\n") == 1


def test_a_port_that_is_in_use_is_named(registry):
    folder, _ = registry
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = command(str(folder / "package1"), "--port", port)
        found = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2 and f"127.0.0.1:{port} cannot be used (Address already in use)" in found.stderr
