"""pipeline/services: passwords that only their owner can read, and servers that are started once and stopped."""

from __future__ import annotations

import http.server
import socket
import stat
import sys
import threading

import pytest

from pipeline.services import processes
from pipeline.services.accounts import FILE, ServicesError, accounts, free_ports

SERVER = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"


@pytest.fixture
def start(tmp_path):
    (port,) = free_ports(0)
    command = [sys.executable, "-S", "-c", SERVER, str(port)]
    ready = lambda: processes.listens(port)  # noqa: E731

    def call(command=command):
        return processes.start(tmp_path, "toy", command, processes.clean_environment(), tmp_path, ready)

    yield call
    processes.stop(tmp_path, "toy")


def test_passwords_are_generated_once_and_readable_by_their_owner_alone(tmp_path):
    first = accounts(tmp_path, tmp_path / "cluster", (0, 0, 0))
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert accounts(tmp_path, tmp_path / "elsewhere", (0, 0, 0)) == first
    secrets = [first.password, first.postgres_password, first.s3_secret, first.form_key]
    assert len(set(secrets)) == 4 and all(len(secret) == 32 for secret in secrets)
    assert len({first.mlflow_port, first.postgres_port, first.s3_port}) == 3


def test_damaged_accounts_are_reported_with_what_to_do(tmp_path):
    (tmp_path / FILE).write_text("{")
    with pytest.raises(ServicesError, match=f"{FILE}: damaged; run `make services-stop`, then delete the folder"):
        accounts(tmp_path, tmp_path / "cluster")


def test_a_port_in_use_is_replaced_by_a_free_one():
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as taken:
        threading.Thread(target=taken.serve_forever, args=(0.01,), daemon=True).start()
        (port,) = free_ports(taken.server_port)
        taken.shutdown()
    assert port != taken.server_port


def test_a_server_is_started_once_and_stopped_once(start, tmp_path):
    assert start() is not None
    running = processes.running(tmp_path, "toy")
    assert start() is None
    assert processes.running(tmp_path, "toy").pid == running.pid
    assert processes.stop(tmp_path, "toy") is True
    assert processes.running(tmp_path, "toy") is None and not running.is_running()
    assert processes.stop(tmp_path, "toy") is False


def test_a_server_that_ends_is_reported_with_its_log(start, tmp_path):
    with pytest.raises(ServicesError, match=f"toy ended while it started; its messages are in {tmp_path}/toy.log"):
        start([sys.executable, "-S", "-c", "raise SystemExit('no space')"])
    assert "no space" in (tmp_path / "toy.log").read_text()


def test_another_program_on_its_port_is_reported(start, tmp_path):
    start()
    (tmp_path / "toy.json").rename(tmp_path / "hidden")
    with pytest.raises(ServicesError, match="another program uses the port of toy; stop it, or delete"):
        start()
    (tmp_path / "hidden").rename(tmp_path / "toy.json")


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_a_server_of_this_machine_is_not_asked_through_a_proxy(monkeypatch, variable):
    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        assert processes.healthy(server.server_port)
        server.shutdown()


def test_a_server_that_speaks_another_protocol_is_not_healthy():
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet():
            connection, _ = other.accept()
            connection.sendall(b"220 mail.test\r\n")
            connection.close()

        threading.Thread(target=greet, daemon=True).start()
        assert not processes.healthy(other.getsockname()[1])


def test_a_process_that_got_the_number_of_an_ended_server_is_not_stopped(start, tmp_path):
    start()
    record = tmp_path / "toy.json"
    text = record.read_text()
    record.write_text(text.replace('"started": ', '"started": 1'))
    assert processes.stop(tmp_path, "toy") is False
    record.write_text(text)
    assert processes.running(tmp_path, "toy") is not None
