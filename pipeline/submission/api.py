"""Client of the Kubeflow Pipelines API: retries while it is busy, one-sentence errors, no duplicates.

It uses `kfp_server_api` instead of `kfp.Client`, because `kfp.Client` prints to stdout, has no request timeout, and
violates the API for periodic schedules (it sends an integer where the API requires a string).
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import kfp_server_api
import urllib3

from components.common.errors import MobanetError, reason, root

log = logging.getLogger(__name__)

T = TypeVar("T")

TOKEN, TOKEN_FILE = "KFP_TOKEN", "KF_PIPELINES_SA_TOKEN_PATH"
"""Environment variables with a bearer token, or (kfp's own) with a file that contains one, read for every request."""

BUSY = frozenset({409, 429, 502, 503, 504})
"""HTTP statuses to retry; 409: somebody else has just created the object, so the retry finds it."""

TIMEOUT_S = (10, 60)
"""Timeouts of a request, seconds: for the connection, and between two parts of the answer."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Pause between two attempts, seconds; each pause is twice the previous one."""

PATIENCE_S = 60.0
"""How long to retry while the server is busy, seconds."""


class ServerError(MobanetError):
    """The server does not answer, or rejects a request."""


class Busy(ServerError):
    """The server does not answer at the moment; a retry may help."""


class Server:
    """A server of Kubeflow Pipelines."""

    def __init__(self, host: str, environment: Mapping[str, str] = os.environ) -> None:
        """Configure the client; nothing is sent yet.

        Args:
            host: http or https URL with the path of the API, which is `/pipeline` in a full Kubeflow.
            environment: `KFP_TOKEN` or `KF_PIPELINES_SA_TOKEN_PATH`, and `SSL_CERT_FILE` for a private certificate
                authority.

        Raises:
            ServerError: the URL or the token is invalid.
        """
        self.host = checked(host)
        configuration = kfp_server_api.Configuration(host=self.host)
        configuration.retries = urllib3.Retry(0, raise_on_redirect=False)  # this class decides which requests to repeat
        configuration.ssl_ca_cert = environment.get("SSL_CERT_FILE")
        self._has_token = _authorise(configuration, environment)
        self._has_answered = False
        self.api = _JsonClient(configuration)

    def ask(self, request: Callable[..., T], *values: Any, patience_s: float = PATIENCE_S, **named: Any) -> T:
        """Send a request that may be repeated, and return the answer.

        Args:
            request: a method of a kfp_server_api class that uses `api`.
            values: positional arguments of the request.
            patience_s: how long to retry while the server is busy, seconds.
            named: keyword arguments of the request.

        Raises:
            Busy: the server was busy for all of that time.
            ServerError: the server rejects the request.
        """
        return self._until_answered(lambda: self.once(request, *values, **named), patience_s)

    def ensure(self, find: Callable[[], T | None], make: Callable[[], T]) -> T:
        """The result of `find`, or of `make` if nothing is found; both must call `once`.

        A request can succeed although its connection breaks. So each retry calls `find` before `make`. If the server
        lists a new object only after the retry, it has the object twice; Kubeflow has no request that prevents this.

        Raises:
            ServerError: as for `ask`.
        """
        return self._until_answered(lambda: find() or make(), PATIENCE_S)

    def once(self, request: Callable[..., T], *values: Any, **named: Any) -> T:
        """Send a request once, and return the answer.

        Raises:
            Busy: the request failed; a retry may help.
            ServerError: the request failed; a retry does not help.
        """
        try:
            answer = request(*values, **named, _request_timeout=TIMEOUT_S)
        except kfp_server_api.ApiException as error:
            self._has_answered = True
            raise (Busy if error.status in BUSY else ServerError)(self._sentence(error)) from None
        except urllib3.exceptions.HTTPError as error:
            sentence = f"{self.host} does not answer ({reason(root(error))})"
            if self._has_answered:
                raise Busy(sentence) from None
            raise ServerError(f"{sentence}; check the address and the network") from None
        self._has_answered = True
        return answer

    def _until_answered(self, attempt: Callable[[], T], patience_s: float) -> T:
        deadline, pause_s = time.monotonic() + patience_s, FIRST_PAUSE_S
        while True:
            try:
                return attempt()
            except Busy as error:
                if time.monotonic() + pause_s > deadline:
                    raise Busy(f"{error}; try again later") from None
                log.info("%s; retrying in %g s", error, pause_s)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _sentence(self, error: kfp_server_api.ApiException) -> str:
        message = f"{error.status}: {_message(error)}"
        if error.status in (401, 403):
            todo = f"set {TOKEN} to a token with this permission" if self._has_token else f"set {TOKEN} to a token"
            return f"{self.host} denies access ({message}); {todo}"
        if error.status in BUSY:
            return f"{self.host} is busy ({message})"
        if error.status >= 500:
            return f"{self.host} failed ({message}); see the log of its API server"
        if error.status >= 400:
            return f"{self.host} rejects the request ({message}); correct it and submit again"
        place = (error.headers or {}).get("location")
        return f"{self.host} redirects to {place} ({error.status}); set --host to the API's URL, and {TOKEN} to a token"


class _JsonClient(kfp_server_api.ApiClient):  # type: ignore[misc]
    """kfp's client with an extra check: a proxy in front of the API can answer with a login page instead of JSON."""

    def deserialize(self, response: Any, response_type: Any) -> Any:
        try:
            json.loads(response.data)
        except ValueError:
            host = self.configuration.host
            raise ServerError(
                f"{host} answers with a web page instead of JSON; set --host to the API's URL, and {TOKEN} to a token"
            ) from None
        return super().deserialize(response, response_type)


def checked(host: str) -> str:
    """Check the URL of a server, and return it without a trailing slash.

    Raises:
        ServerError: the URL is invalid.
    """
    parts = urlsplit(host)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment or parts.username:
        raise ServerError(
            f"--host is {host!r}; expected http://NAME or https://NAME, if needed with port and path: the URL of the "
            "UI up to the #, without a password"
        )
    return host.rstrip("/")


def _authorise(configuration: Any, environment: Mapping[str, str]) -> bool:
    """Add the bearer token to the configuration; returns whether there is one.

    Raises:
        ServerError: the token is malformed.
    """
    token = environment.get(TOKEN, "").strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ServerError(f"{TOKEN} is not a valid token; expected one line of ASCII without spaces")
    if not token and TOKEN_FILE not in environment:
        return False
    configuration.api_key["authorization"] = token
    configuration.api_key_prefix["authorization"] = "Bearer"
    if not token:
        from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

        credentials = ServiceAccountTokenVolumeCredentials(environment[TOKEN_FILE])
        configuration.refresh_api_key_hook = credentials.refresh_api_key_hook
    return True


def _message(error: kfp_server_api.ApiException) -> str:
    """The server's message on one line, at most 500 characters."""
    try:
        document = json.loads(error.body)
    except (TypeError, ValueError):  # empty, or a web page of a proxy
        return str(error.reason)
    message = document.get("message") if isinstance(document, dict) else None
    return " ".join(str(message or error.body).split())[:500]
