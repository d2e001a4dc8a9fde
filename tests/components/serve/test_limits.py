"""components/serve/limits.py, jobs.py: number, size and time of requests."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import replace

import pytest
import torch
from starlette.requests import Request

from components.serve.following import ModelSource
from components.serve.jobs import Abandoned, Jobs, Stoppable
from components.serve.limits import Limits
from components.serve.metering import Metering
from components.serve.served import Identity
from tests.components.predict.known import KnownPredictor
from tests.components.serve.conftest import DEFAULTS
from tests.components.serve.test_following import FakeRegistry


class OpenModel:
    """A model that is always open."""

    def __init__(self, package, registered) -> None:
        self.identity, self.predictor = Identity(*registered, "0" * 64, "1" * 64), KnownPredictor()

    def use(self):
        return True

    def release(self):
        pass

    retire = release


@pytest.fixture
def source(tmp_path):
    (tmp_path / "package").mkdir()
    opened = ModelSource("models:/mobanet/1", OpenModel, 1.0, FakeRegistry(tmp_path / "package"))
    yield opened
    opened.close()


def limited(app, source, **changes):
    return Limits(app, replace(DEFAULTS, **changes), source, Metering(source))


async def post(app, chunks=(b"",), headers=()):
    """Status, headers and body of the answer to a request; the client stays until it has it."""
    waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    waiting[-1]["more_body"] = False
    sent = []

    async def receive():
        return waiting.pop(0) if waiting else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    await app({"type": "http", "method": "POST", "headers": list(headers)}, receive, send)
    start, body = sent
    return start["status"], dict(start["headers"]), json.loads(body["body"] or "null")


async def read_all(scope, receive, send):
    """An application that reads the body and answers."""
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"1"})


def test_a_body_is_limited_while_it_arrives_whatever_its_headers_state(source):
    app = limited(read_all, source, max_body_mb=1)
    half = b"x" * 500_000
    assert asyncio.run(post(app, [half, half]))[0] == 200
    for headers in ([], [(b"content-length", b"10")], [(b"content-length", b"-1")]):
        status, _, body = asyncio.run(post(app, [half, half, b"x"], headers))
        assert (status, body["error"]) == (413, "the request is larger than 1 MB, the limit; use mobanet predict")


def test_a_body_whose_length_is_too_large_is_refused_before_it_arrives(source):
    async def never(*_):
        raise AssertionError("the application was called")

    status, headers, _ = asyncio.run(post(limited(never, source), headers=[(b"content-length", b"9" * 30)]))
    assert status == 413 and headers[b"connection"] == b"close" and headers[b"x-model-version"] == b"1"


def test_requests_beyond_the_queue_are_told_when_to_try_again(source):
    async def run():
        finish = asyncio.Event()

        async def waits(scope, receive, send):
            await finish.wait()
            await read_all(scope, receive, send)

        app = limited(waits, source, concurrency=1, queue=2)
        running = [asyncio.create_task(post(app)) for _ in range(3)]
        await asyncio.sleep(0)
        refused = await post(app)
        finish.set()
        return refused, [status for status, _, _ in await asyncio.gather(*running)], (await post(app))[0]

    (status, headers, body), finished, later = asyncio.run(run())
    assert (status, headers[b"retry-after"]) == (429, b"1") and body["error"].startswith("the service is busy")
    assert finished == [200, 200, 200] and later == 200


def test_a_request_that_takes_too_long_is_answered_and_its_work_stops(source):
    batches, ended = [], threading.Event()

    def work(served, predictor):
        image = torch.zeros(1, 3, 8, 8)
        try:
            while True:
                predictor(image, image[:, :1])
                batches.append(time.monotonic())
                time.sleep(0.005)
        except Abandoned:
            ended.set()
            raise

    jobs = Jobs(source, 1)

    async def computes(scope, receive, send):
        await jobs.run(work)

    status, headers, body = asyncio.run(post(limited(computes, source, timeout_s=0.1)))
    assert (
        status == 503 and b"retry-after" in headers and body["error"].startswith("the request took longer than 0.1 s")
    )
    assert batches and ended.wait(5)


async def leave(app, *messages):
    """Answers to a client that closes the connection after these messages."""
    waiting, sent = [*messages, {"type": "http.disconnect"}], []

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    await app({"type": "http", "method": "POST", "headers": []}, receive, send)
    return sent


def test_work_stops_once_the_client_has_left(source):
    ended, jobs = threading.Event(), Jobs(source, 1)

    def work(served, predictor):
        image = torch.zeros(1, 3, 8, 8)
        try:
            while True:
                predictor(image, image[:, :1])
        except Abandoned:
            ended.set()
            raise

    async def computes(scope, receive, send):
        await receive()
        await jobs.run(work)

    app = limited(computes, source, timeout_s=60.0)
    assert asyncio.run(leave(app, {"type": "http.request", "body": b"1", "more_body": False})) == []
    assert ended.wait(5) and app._inside == 0


def test_a_client_that_leaves_while_it_sends_is_no_error(source, caplog):
    async def reads(scope, receive, send):
        await Request(scope, receive).body()

    app = limited(reads, source)
    assert asyncio.run(leave(app, {"type": "http.request", "body": b"1", "more_body": True})) == []
    assert not caplog.records and app._inside == 0


def test_a_slow_body_is_cut_off(source):
    async def slow(scope, receive, send):
        await asyncio.sleep(60)

    assert asyncio.run(post(limited(slow, source, timeout_s=0.05)))[0] == 503


def test_work_that_waits_is_never_begun_once_nobody_waits_for_it(source):
    begun, hold = [], threading.Event()
    jobs = Jobs(source, 1)

    async def run():
        first = asyncio.create_task(jobs.run(lambda *_: hold.wait(5)))
        second = asyncio.create_task(jobs.run(lambda *_: begun.append(2)))
        await asyncio.sleep(0.02)
        second.cancel()
        await asyncio.sleep(0)
        hold.set()
        await first

    asyncio.run(run())
    jobs.close()
    assert not begun


def test_a_stopped_predictor_computes_no_further_batch():
    stop, known = threading.Event(), KnownPredictor()
    predictor = Stoppable(known, stop)
    image = torch.zeros(1, 3, 8, 8)
    predictor(image, image[:, :1])
    stop.set()
    with pytest.raises(Abandoned):
        predictor(image, image[:, :1])
    assert len(known.batches) == 1
