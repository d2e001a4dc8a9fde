"""components/serve/downloads.py: URLs below allowed prefixes only, and no address that is not public."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from components.common.errors import ParamsError, TemporaryError
from components.common.params import from_mapping
from components.serve.config import ServeConfig
from components.serve.downloads import download, is_public
from components.serve.refusals import RequestError
from tests.components.serve.conftest import DEFAULTS


class Files(BaseHTTPRequestHandler):
    """A server with one file, a redirect, a file that is too large, and errors."""

    def do_GET(self):
        name = self.path.rpartition("/")[2].partition("?")[0]
        self.server.seen.append(self.path)
        self.server.hosts.append(self.headers["Host"])
        large = bytes(1_100_000)
        answers = {"ok.tif": (200, b"tiff"), "away.tif": (302, b""), "large.tif": (200, large), "500": (500, b"")}
        answers["cut.tif"] = 200, b"tif"
        status, content = answers.get(name, (404, b""))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/secret.tif")
        if name == "cut.tif":
            self.send_header("Content-Length", "4")
        self.end_headers()  # else without a length: it is counted while it arrives
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as opened:
        opened.seen, opened.hosts = [], []
        threading.Thread(target=opened.serve_forever, daemon=True).start()
        yield opened
        opened.shutdown()


@pytest.fixture
def base(server):
    server.seen.clear()
    return f"http://localhost:{server.server_address[1]}"


def config_of(base, private=True):
    return replace(DEFAULTS, url_prefixes=(f"{base}/tiles/",), allow_private_hosts=private, max_body_mb=1)


def test_a_file_below_the_prefix_is_fetched_with_its_query(base, server, tmp_path):
    download(f"{base}/tiles/2025/ok.tif?token=1%20a", tmp_path / "x.tif", config_of(base))
    assert (tmp_path / "x.tif").read_bytes() == b"tiff" and server.seen == ["/tiles/2025/ok.tif?token=1%20a"]


@pytest.mark.parametrize(
    ("name", "status", "sentence"),
    [
        ("away.tif", 422, "the server redirects, which is not followed"),
        ("large.tif", 413, "larger than 1 MB, the limit"),
        ("none.tif", 422, "the server answers 404; correct the URL"),
    ],
)
def test_redirects_large_files_and_refusals_are_one_sentence(base, tmp_path, name, status, sentence):
    with pytest.raises(RequestError, match=sentence) as error:
        download(f"{base}/tiles/{name}", tmp_path / "x.tif", config_of(base))
    assert error.value.status == status


def test_a_server_that_fails_or_is_away_is_temporary(base, tmp_path):
    with pytest.raises(TemporaryError, match="the server answers 500; try again later"):
        download(f"{base}/tiles/500", tmp_path / "x.tif", config_of(base))
    with socket.create_server(("127.0.0.1", 0)) as unused:
        away = f"http://localhost:{unused.getsockname()[1]}"
    with pytest.raises(TemporaryError, match="the server does not answer"):
        download(f"{away}/tiles/x.tif", tmp_path / "x.tif", config_of(away))


def test_a_transfer_that_ends_early_is_temporary(base, tmp_path):
    with pytest.raises(TemporaryError, match="cut.tif: the server ended the transfer early"):
        download(f"{base}/tiles/cut.tif", tmp_path / "x.tif", config_of(base))


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_server_that_sends_a_byte_now_and_then_is_cut_off(start, tmp_path):
    ended = threading.Event()

    def drip(listener):
        connection, _ = listener.accept()
        with suppress(OSError), connection:
            connection.sendall(start)
            while not ended.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        base = f"http://localhost:{listener.getsockname()[1]}"
        started_s = time.monotonic()
        with pytest.raises(TemporaryError, match="sends too slowly|does not answer"):
            download(f"{base}/tiles/x.tif", tmp_path / "x.tif", replace(config_of(base), timeout_s=0.3))
        ended.set()
    assert time.monotonic() - started_s < 5


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_usual_port_is_not_in_the_header_host(scheme, server, tmp_path, monkeypatch):
    """A signed URL signs the header, which has no port then."""
    base, connected = f"{scheme}://tiles.test", socket.create_connection(server.server_address)
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: connected)
    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", lambda self, sock, **_: sock)
    download(f"{base}/tiles/ok.tif", tmp_path / "x.tif", config_of(base))
    assert server.hosts[-1] == "tiles.test"


def test_a_private_address_is_never_connected_unless_the_settings_allow_it(base, server, tmp_path):
    with pytest.raises(RequestError, match="localhost has an address that is not public") as error:
        download(f"{base}/tiles/ok.tif", tmp_path / "x.tif", config_of(base, private=False))
    assert error.value.status == 403 and not server.seen


def test_the_address_that_was_checked_is_the_one_that_is_connected(base, server, tmp_path, monkeypatch):
    """A name server that answers with a public address first and with a private one afterwards gains nothing."""
    asked, connected = [], []

    def resolve(host, port, *_, **__):
        asked.append(host)
        address = "93.184.216.34" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(address, *_, **__):
        connected.append(address[0])
        raise ConnectionRefusedError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(TemporaryError):
        download(f"{base}/tiles/ok.tif", tmp_path / "x.tif", config_of(base, private=False))
    assert connected == ["93.184.216.34"] and len(asked) == 1


def test_a_host_with_a_public_and_a_private_address_is_refused(base, tmp_path, monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(RequestError, match="not public"):
        download(f"{base}/tiles/ok.tif", tmp_path / "x.tif", config_of(base, private=False))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_public_addresses_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *(
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1%eth0",
            "fc00::1",
            "fec0::1",
            "ff02::1",
            "::ffff:127.0.0.1",
        ),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    ],
)
def test_other_addresses_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "prefix",
    [
        "https://a.test",
        "https://a.test/x",
        "a.test/",
        "file:///",
        "https://u@a.test/",
        "https://a.test/?x/",
        "https:///x/",
        "https://a.test:99999/",
        "https://[a.test/",
    ],
)
def test_a_prefix_that_would_allow_more_than_it_shows_is_an_error_of_the_settings(prefix):
    with pytest.raises(ParamsError, match="url_prefixes has"):
        from_mapping(ServeConfig, asdict(DEFAULTS) | {"url_prefixes": [prefix]}, "serve")
