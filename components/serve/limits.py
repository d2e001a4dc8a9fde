"""What holds for every request: number of requests, size, time, the headers that name the model, and the metrics.

An ASGI middleware. The size is counted while a body arrives, whatever its headers state.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.serve.config import ServeConfig
from components.serve.following import ModelSource
from components.serve.metering import Metering
from components.serve.refusals import RequestError

log = logging.getLogger(__name__)

RETRY_AFTER = {"Retry-After": "1"}


class Limits:
    """Limits of requests with a body, and figures of all requests."""

    def __init__(self, app: ASGIApp, config: ServeConfig, source: ModelSource, metering: Metering) -> None:
        """Wrap an application."""
        self._app, self._config, self._source, self._metering = app, config, source, metering
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange, started_s = _Exchange(receive, send, self._source, self._config), time.monotonic()
        try:
            if scope["method"] == "POST":
                await self._limited(scope, exchange)
            else:
                await self._app(scope, receive, exchange.send)
        except ClientDisconnect:
            pass  # the client left before its request had arrived
        except Exception:
            log.exception("a request failed")
            await exchange.refuse(RequestError(500, "the service failed; its log has the reason"))
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metering.request(route, exchange.status, time.monotonic() - started_s)

    async def _limited(self, scope: Scope, exchange: _Exchange) -> None:
        if self._inside >= self._config.concurrency + self._config.queue:
            await exchange.refuse(RequestError(429, "the service is busy; try again in a second", RETRY_AFTER))
            return
        self._inside += 1
        try:
            with self._metering.in_flight.track_inprogress():
                exchange.check_stated_size(scope)
                async with asyncio.timeout(self._config.timeout_s) as deadline, exchange.watched(deadline):
                    await self._app(scope, exchange.receive, exchange.send)
        except RequestError as error:
            await exchange.refuse(error)
        except TimeoutError:
            if exchange.left:
                return
            limit_s = f"{self._config.timeout_s:g} s"
            sentence = f"the request took longer than {limit_s}; send smaller parts, or try again later"
            await exchange.refuse(RequestError(503, sentence, RETRY_AFTER))
        finally:
            self._inside -= 1


class _Exchange:
    """One request and its answer."""

    def __init__(self, receive: Receive, send: Send, source: ModelSource, config: ServeConfig) -> None:
        self._receive, self._send, self._source, self._config = receive, send, source, config
        self.status, self._size = 0, 0  # status 0: nothing was sent
        self._complete = asyncio.Event()  # the body has arrived
        self.left = False  # the client closed the connection while its request was computed

    def check_stated_size(self, scope: Scope) -> None:
        """Refuse a body that is too large before it arrives."""
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if stated.isdigit() and int(stated[:18]) > self._config.max_body_bytes:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next part of the body."""
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > self._config.max_body_bytes:
            raise self._too_large()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._complete.set()
        return message

    @asynccontextmanager
    async def watched(self, deadline: asyncio.Timeout) -> AsyncIterator[None]:
        """End the block at once if the client closes the connection after its body has arrived."""

        async def watch() -> None:
            await self._complete.wait()
            while (await self._receive())["type"] != "http.disconnect":
                pass
            if not self.status and not deadline.expired():
                self.left = True
                deadline.reschedule(asyncio.get_running_loop().time())

        watcher = asyncio.create_task(watch())
        try:
            yield
        finally:
            watcher.cancel()

    async def send(self, message: Message) -> None:
        """A part of the answer; its head gets the model's headers, unless it has them."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            identity = self._source.identity
            if identity is not None and not any(name.lower() == b"x-model-version" for name, _ in headers):
                headers += _encoded(identity.headers)
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, error: RequestError) -> None:
        """Answer with an error, and close the connection: the rest of the body is not read."""
        if self.status:
            log.warning("an answer could not be completed: %s", error)
            return
        body = json.dumps({"error": str(error)}).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        start = {"type": "http.response.start", "status": error.status, "headers": _encoded(headers | error.headers)}
        await self.send(start)
        await self._send({"type": "http.response.body", "body": body})

    def _too_large(self) -> RequestError:
        return RequestError(
            413, f"the request is larger than {self._config.max_body_mb} MB, the limit; use mobanet predict"
        )


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
