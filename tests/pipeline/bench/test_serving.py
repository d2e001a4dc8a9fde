"""`mobanet bench serve` on a toy model: both servers run, and the ratios are those of the figures."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.bench.serving import BenchError, Load, Report, Server, as_table, running
from tests.components.serve.conftest import toy_package

ROOT = Path(__file__).parents[3]


def test_the_table_names_both_servers_every_number_of_clients_and_the_ratios():
    loads = tuple(Load(clients, 10.0, 1.0, 2.0, 3.0) for clients in (1, 4, 16))
    servers = tuple(Server(name, loads, 500.0, 510.0, 520.0) for name in ("mobanet serve", "mlflow models serve"))
    lines = as_table(Report(256, 64, 10_000, servers, {1: 2.0, 4: 3.0, 16: 4.0})).splitlines()
    assert len(lines) == 10
    assert lines[4] == "mobanet serve        memory 500 MB, +10 MB after 10000 requests"
    assert lines[-1].endswith("2.00x with 1, 3.00x with 4, 4.00x with 16")


BENCH = """
import subprocess, sys, time
from pathlib import Path
from pipeline.bench import serving
with serving.running("toy", lambda port: [sys.executable, "-S", "-c", sys.argv[1], str(port)], Path(sys.argv[2])):
    print("answers", flush=True)
    time.sleep(60)
"""
TOY = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Healthy).serve_forever()
"""


def test_a_signal_to_the_benchmark_also_ends_its_server(tmp_path):
    command = [sys.executable, "-c", BENCH, TOY, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "answers\n"
            (server,) = psutil.Process(process.pid).children()
            process.terminate()
            assert process.wait(30) == 128 + signal.SIGTERM
            assert not server.is_running()
        finally:
            process.kill()


def test_a_server_that_does_not_start_is_reported_with_its_last_message(tmp_path):
    command = [sys.executable, "-S", "-c", "raise SystemExit('first\\nno space')"]
    with pytest.raises(BenchError, match="^toy did not start: no space$"), running("toy", lambda _: command, tmp_path):
        pass


@pytest.mark.system
def test_both_servers_are_measured_with_the_same_model(tmp_path):
    package = toy_package(tmp_path / "package", seed=1)
    options = ("--side", "24", "--requests", "16", "--memory-requests", "20", "--json")
    command = [sys.executable, "-m", "pipeline.cli", "bench", "serve", "--package", str(package), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    ours, theirs = report["servers"]
    assert [load["clients"] for load in ours["loads"]] == [1, 4, 16]
    for clients, a, b in zip((1, 4, 16), ours["loads"], theirs["loads"], strict=True):
        assert report["faster"][str(clients)] == pytest.approx(a["requests_per_s"] / b["requests_per_s"])
        assert a["p50_ms"] <= a["p95_ms"] <= a["p99_ms"]
    assert ours["start_mb"] > 100 and theirs["most_mb"] >= theirs["end_mb"]
