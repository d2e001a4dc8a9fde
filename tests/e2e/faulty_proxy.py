"""An HTTP proxy before a server on this machine that does to it what bad networks and busy servers do, by seed."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"

KINDS = ("busy", "dropped", "upload cut", "download cut")
"""503 instead of an answer | closed without one | half the upload reaches the server | half the answer comes back."""


class FaultyProxy(ThreadingHTTPServer):
    """Forwards to `port`; after `healthy` requests, a `share` of them goes wrong in the ways of `kinds`.

    The kind "lie" sends half an object as if it were all of it.
    """

    daemon_threads = True

    def __init__(self, port: int, *, share: float, kinds=KINDS, seed: int, healthy: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.share, self.kinds, self.healthy = port, share, kinds, healthy
        self.delay_s = 0.0  # pause before every request, seconds
        self.done = Counter()
        self._rng, self._lock = random.Random(seed), threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fault(self, possible: set[str]) -> str | None:
        """What goes wrong with a request that can go wrong in the `possible` ways."""
        with self._lock:
            kinds = [kind for kind in self.kinds if kind in possible]
            self.healthy -= 1
            if self.healthy >= 0 or not kinds or self._rng.random() >= self.share:
                return None
            kind = self._rng.choice(kinds)
            self.done[kind] += 1
            return kind

    def __enter__(self) -> FaultyProxy:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """A client that hung up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(self.server.delay_s)
        possible = {"busy", "dropped"} | ({"upload cut"} if body else set())
        if self.command == "GET":
            possible |= {"download cut"} | ({"lie"} if "list-type" not in self.path else set())
        fault = self.server.fault(possible)
        if fault == "busy":
            self._answer(503, {"Content-Type": "application/xml", "Content-Length": len(BUSY)}, BUSY)
        elif fault == "dropped":
            self.close_connection = True
        else:
            self._forward(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request

    def _forward(self, body: bytes, fault: str | None) -> None:
        server = http.client.HTTPConnection("127.0.0.1", self.server.upstream)
        server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "expect"):
                server.putheader(name, value)
        server.endheaders()
        server.send(body[: len(body) // 2] if fault == "upload cut" else body)
        if fault == "upload cut":
            self.close_connection = True
        else:
            answer = server.getresponse()
            content, headers = answer.read(), dict(answer.getheaders())
            for name in ("Transfer-Encoding", "Connection"):
                headers.pop(name, None)
            if self.command != "HEAD":
                headers["Content-Length"] = len(content)
            if fault in ("download cut", "lie"):
                content = content[: len(content) // 2]
                self.close_connection = True
            if fault == "lie":
                headers["Content-Length"] = len(content)
            self._answer(answer.status, headers, content)
        server.close()

    def _answer(self, status: int, headers: dict, content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
