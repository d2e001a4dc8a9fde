"""`mobanet bench serve`: requests per second, latency and memory of the service against `mlflow models serve`.

In: a package folder. Out: a table or JSON on stdout. Both servers run the same model in the same run, one after the
other, as processes of their own, and answer requests for the same pixels: the service over the V2 protocol with binary
tensors, MLflow over its JSON.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import typer

from components.common.errors import MobanetError
from components.common.tracking.packages import read_record
from pipeline.services import processes
from pipeline.services.accounts import free_ports

CLIENTS = (1, 4, 16)
START_S = 300.0
"""Time that a server may take to start."""

Request = tuple[str, bytes, dict[str, str]]
"""Path, body and headers of a POST request."""


@dataclass(frozen=True, slots=True)
class Load:
    """A server under one number of clients."""

    clients: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Server:
    """Figures of one server."""

    name: str
    loads: tuple[Load, ...]
    start_mb: float  # memory of all its processes after the first requests
    end_mb: float  # after the requests of the memory test
    most_mb: float  # largest value in between


@dataclass(frozen=True, slots=True)
class Report:
    """Result of the benchmark, as printed by `--json`."""

    side_px: int
    requests: int  # per number of clients
    memory_requests: int
    servers: tuple[Server, Server]
    faster: dict[int, float]  # clients -> requests per second of the service divided by those of MLflow


class BenchError(MobanetError):
    """A server does not start, or does not answer."""


def bench(
    package: Annotated[Path, typer.Option(metavar="DIR", help="Package folder of the model.")] = Path("package"),
    side: Annotated[int, typer.Option(min=1, help="Side of the rasters in the requests, pixels.")] = 256,
    requests: Annotated[int, typer.Option(min=1, help="Requests per number of clients.")] = 64,
    memory_requests: Annotated[int, typer.Option(min=1, help="Further requests, whose memory is measured.")] = 10_000,
    memory_side: Annotated[int, typer.Option(min=1, help="Side of the rasters in those, pixels.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compare `mobanet serve` with `mlflow models serve` of the same model: requests/s, latency, memory."""
    bands = len(read_record(package)["facts"]["bands"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = {
            "mobanet serve": (_ours(package), v2_request),
            "mlflow models serve": (_mlflows(package, folder / "model"), mlflow_request),
        }
        measured = []
        for server, (command, request) in commands.items():
            with running(server, command, folder) as (port, process):
                work, small = request(side, bands), request(memory_side, bands)
                loads = tuple(under_load(port, work, clients, requests) for clients in CLIENTS)
                measured.append(Server(server, loads, *_memory(port, small, process, memory_requests)))
    ours, theirs = measured
    faster = {a.clients: a.requests_per_s / b.requests_per_s for a, b in zip(ours.loads, theirs.loads, strict=True)}
    report = Report(side, requests, memory_requests, (ours, theirs), faster)
    typer.echo(json.dumps(asdict(report), indent=2) if as_json else as_table(report))


def as_table(report: Report) -> str:
    """The report for a terminal."""
    lines = [f"rasters of {report.side_px} x {report.side_px} px, {report.requests} requests per number of clients"]
    for server in report.servers:
        lines += [
            f"{server.name:20} {load.clients:3} clients  {load.requests_per_s:7.1f} requests/s  "
            f"latency ms: 50 % {load.p50_ms:.0f}, 95 % {load.p95_ms:.0f}, 99 % {load.p99_ms:.0f}"
            for load in server.loads
        ]
        growth = server.end_mb - server.start_mb
        after = f"{growth:+.0f} MB after {report.memory_requests} requests"
        lines.append(f"{server.name:20} memory {server.start_mb:.0f} MB, {after}")
    ratios = ", ".join(f"{ratio:.2f}x with {clients}" for clients, ratio in report.faster.items())
    return "\n".join([*lines, f"mobanet serve / mlflow models serve, requests/s by clients: {ratios}"])


def v2_request(side_px: int, bands: int) -> Request:
    """A request of the V2 protocol with binary tensors."""
    image_HWC, dsm_HW = _rasters(side_px, bands)
    tensors = {"image": ("UINT8", image_HWC), "dsm": ("FP32", dsm_HW)}
    inputs = [
        {"name": name, "datatype": kind, "shape": list(a.shape), "parameters": {"binary_data_size": a.nbytes}}
        for name, (kind, a) in tensors.items()
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = head + image_HWC.tobytes() + dsm_HW.tobytes()
    return "/v2/models/mobanet/infer", body, {"Inference-Header-Content-Length": str(len(head))}


def mlflow_request(side_px: int, bands: int) -> Request:
    """A request of MLflow's own protocol."""
    image_HWC, dsm_HW = _rasters(side_px, bands)
    body = json.dumps({"inputs": {"image": image_HWC.tolist(), "dsm": dsm_HW.tolist()}}).encode()
    return "/invocations", body, {"Content-Type": "application/json"}


def _rasters(side_px: int, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Image `[H, W, C]` uint8 and heights `[H, W]` float32, metres."""
    rng = np.random.default_rng(0)
    image_HWC = rng.integers(0, 256, (side_px, side_px, bands), np.uint8)
    return image_HWC, rng.uniform(30, 40, (side_px, side_px)).astype(np.float32)


def _ours(package: Path) -> Callable[[int], list[str]]:
    program = [sys.executable, "-m", "pipeline.cli", "serve", str(package.resolve())]
    return lambda port: [*program, "--port", str(port)]


def _mlflows(package: Path, model: Path) -> Callable[[int], list[str]]:
    """The package as a logged model, which MLflow can serve."""
    from components.register.uploads.logged_model import describe

    describe(model, read_record(package))
    shutil.copytree(package, model, dirs_exist_ok=True)
    program = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-m", str(model)]
    return lambda port: [*program, "--port", str(port)]


@contextmanager
def running(name: str, command: Callable[[int], list[str]], folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Port and process of a server that answers.

    Raises:
        BenchError: it ends, or does not answer in time.
    """
    (port,) = free_ports(0)
    log = folder / f"{name.replace(' ', '_')}.log"
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": paths, "MLFLOW_DISABLE_TELEMETRY": "true"}
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the server ends, too
    try:
        with log.open("w") as file:
            process = subprocess.Popen(command(port), env=env, stdout=file, stderr=file, start_new_session=True)
        try:
            until = time.monotonic() + START_S
            while not processes.healthy(port):
                if process.poll() is not None or time.monotonic() > until:
                    last = log.read_text().strip().rpartition("\n")[2] or "it wrote no message"
                    raise BenchError(f"{name} did not start: {last}")
                time.sleep(0.2)
            yield port, psutil.Process(process.pid)
        finally:
            if process.poll() is None:
                processes.end(psutil.Process(process.pid))
            process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def under_load(port: int, request: Request, clients: int, requests: int) -> Load:
    """Send requests from several clients at the same time, each on a connection that stays open.

    Raises:
        BenchError: a request fails.
    """
    numbers = count()

    def work() -> list[float]:
        seconds = []
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
            while next(numbers) < requests:
                start = time.perf_counter()
                connection.request("POST", *request)
                answer = connection.getresponse()
                content = answer.read()
                if answer.status != 200:
                    raise BenchError(f"a request was answered with {answer.status}: {content[:200]!r}")
                seconds.append(time.perf_counter() - start)
        return seconds

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = [task.result() for task in [pool.submit(work) for _ in range(clients)]]
    total_s = time.perf_counter() - start
    p50, p95, p99 = np.percentile(np.concatenate([np.array(part) for part in found]) * 1000, (50, 95, 99))
    return Load(clients, requests / total_s, float(p50), float(p95), float(p99))


def _memory(port: int, request: Request, process: psutil.Process, requests: int) -> tuple[float, float, float]:
    """Memory of all processes of a server, MB: before, after, and the most during many requests."""
    under_load(port, request, 4, min(requests, 100))
    measured = [_used_mb(process)]
    for _ in range(10):
        under_load(port, request, 4, max(1, requests // 10))
        measured.append(_used_mb(process))
    return measured[0], measured[-1], max(measured)


def _used_mb(process: psutil.Process) -> float:
    return sum(member.memory_info().rss for member in (process, *process.children(recursive=True))) / 1e6
