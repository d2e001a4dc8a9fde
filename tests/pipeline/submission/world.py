"""A Kubeflow Pipelines server with the requests that `submit` sends, and with the faults that can occur.

Its answers follow the API contract; Prism checks whether the requests do (test_contract.py).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/apis/v2beta1"
TIME = "2026-11-25T10:00:{:02}Z"


@dataclass
class Fault:
    """A fault of the next requests of a kind."""

    request: str  # a pattern of "METHOD PATH", after /apis/v2beta1
    times: int = 1
    status: int = 503  # 0: the connection breaks off without an answer
    body: dict[str, Any] | str = field(default_factory=lambda: {"code": 14, "message": "come back later"})
    accepted: bool = False  # the server has done what it was asked, and fails after that
    headers: dict[str, str] = field(default_factory=dict)


class World:
    """State of the server, and its faults to come."""

    def __init__(self):
        self.host = ""
        self.reset()

    def reset(self):
        """Start empty and without faults."""
        self.things: dict[str, list[dict[str, Any]]] = {
            kind: [] for kind in ("pipelines", "pipeline_versions", "experiments", "runs", "recurringRuns")
        }
        self.uploads: list[str] = []  # texts
        self.requests: list[str] = []  # "METHOD PATH", after /apis/v2beta1
        self.tokens: set[str | None] = set()
        self.faults: list[Fault] = []
        self.script: list[dict[str, Any]] = [{"state": "SUCCEEDED"}]  # what a run becomes with every look at it

    def count(self, pattern):
        """Number of requests of a kind so far."""
        return sum(re.fullmatch(pattern, request) is not None for request in self.requests)

    def answer(self, method, path, query, body):
        """The answer to a request as (status, content)."""
        kind = {"/recurringruns": "recurringRuns"}.get(path, path[1:])
        if method == "GET" and kind in self.things:
            return 200, self._list(kind, query)
        if method == "GET" and re.fullmatch(r"/pipelines/[^/]+/versions", path):
            return 200, self._list("pipeline_versions", query | {"pipeline_id": path.split("/")[2]})
        if method == "POST" and path == "/pipelines/upload_version":
            self.uploads.append(re.search(rb"\r\n\r\n(.*)\r\n--", body, re.DOTALL)[1].decode())
            return 200, self._add("pipeline_versions", {"name": query["name"], "pipeline_id": query["pipelineid"]})
        if method == "POST" and kind in self.things:
            return 200, self._add(kind, json.loads(body))
        if method == "GET" and path.startswith("/runs/"):
            (run,) = [one for one in self.things["runs"] if one["run_id"] == path.split("/")[2]]
            return 200, run | (self.script.pop(0) if len(self.script) > 1 else self.script[0])
        return 404, {"code": 5, "message": f"{method} {path}: not found"}

    def _list(self, kind, query):
        (same,) = json.loads(query.pop("filter"))["predicates"]
        assert same["operation"] == "EQUALS"
        wanted = {same["key"]: same["stringValue"], **{k: v for k, v in query.items() if k.endswith("_id")}}
        found = [one for one in self.things[kind] if all(one.get(k) == v for k, v in wanted.items())]
        return {kind: found, "total_size": len(found)} if found else {}

    def _add(self, kind, thing):
        names = {"recurringRuns": "recurring_run_id", "pipeline_versions": "pipeline_version_id"}
        made = thing | {names.get(kind, f"{kind[:-1]}_id"): f"{kind}-{len(self.things[kind]) + 1}"}
        self.things[kind].append(made)
        return made


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece: in two, each would wait 40 ms for an acknowledgement
    world: World

    def _handle(self):
        world, parts = self.world, urlsplit(self.path)
        path = parts.path.removeprefix(API)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = f"{self.command} {path}"
        world.requests.append(request)
        world.tokens.add(self.headers.get("Authorization"))
        fault = next((one for one in world.faults if one.times and re.fullmatch(one.request, request)), None)
        headers = {}
        if fault is None or fault.accepted:
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            status, content = world.answer(self.command, path, query, body)
        if fault is not None:
            fault.times -= 1
            status, content, headers = fault.status, fault.body, fault.headers
        if status == 0:
            self.close_connection = True
            self.connection.close()
            return
        is_page = isinstance(content, str)
        encoded = content.encode() if is_page else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/html" if is_page else "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    do_GET = do_POST = _handle  # noqa: N815

    def log_message(self, *_):
        pass


@contextmanager
def serving() -> Iterator[World]:
    """A new world, on a separate port."""
    world = World()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"world": world}))
    world.host = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()


def details(**states):
    """A run as a server describes it: tasks with their states, and the groups and helpers that servers also list."""
    helpers = {"root": "RUNNING", "root-driver": "SUCCEEDED", "run": "RUNNING", "executor": "SUCCEEDED"}
    tasks = []
    for number, (name, state) in enumerate({**helpers, **states}.items()):
        task = {"display_name": name, "state": state, "start_time": TIME.format(number)}
        if state in ("SUCCEEDED", "FAILED", "SKIPPED"):
            task["end_time"] = TIME.format(number + 30)
        if state == "FAILED":
            task["error"] = {"code": 2, "message": f"{name} ended with 2"}
        tasks.append(task)
    return {"task_details": tasks}
