"""The API of Kubeflow Pipelines: asked again while it is busy, refusals as one sentence, nothing made twice.

Built on `kfp_server_api`, and not on `kfp.Client`, which prints on stdout, waits without a time limit for an answer,
and breaks its own contract in a periodic schedule (a whole number where the API has a text).
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
"""Environment variables: a bearer token, or a file with one, which is read for every request. The latter is kfp's."""

BUSY = frozenset({409, 429, 502, 503, 504})
"""HTTP status that may be another one soon; 409: somebody else has just made it, so it will be found."""

TIMEOUT_S = (10, 60)
"""Of one request: for a connection, and between two parts of the answer."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Between two tries; every pause is twice the one before."""

PATIENCE_S = 60.0
"""How long a busy server is asked again."""


class ServerError(MobanetError):
    """The server does not answer, or refuses."""


class Busy(ServerError):
    """The server does not answer now; it may later."""


class Server:
    """A server of Kubeflow Pipelines."""

    def __init__(self, host: str, environment: Mapping[str, str] = os.environ) -> None:
        """Take the address; nothing is sent yet.

        Args:
            host: http or https address, with the path under which the API is found, `/pipeline` in a full Kubeflow.
            environment: `KFP_TOKEN` or `KF_PIPELINES_SA_TOKEN_PATH`, and `SSL_CERT_FILE` for a certificate authority
                of one's own.

        Raises:
            ServerError: that is no address, or no token.
        """
        self.host = checked(host)
        configuration = kfp_server_api.Configuration(host=self.host)
        configuration.retries = urllib3.Retry(0, raise_on_redirect=False)  # what a retry may repeat is decided here
        configuration.ssl_ca_cert = environment.get("SSL_CERT_FILE")
        self._has_token = _authorise(configuration, environment)
        self._has_answered = False
        self.api = _JsonClient(configuration)

    def ask(self, request: Callable[..., T], *values: Any, patience_s: float = PATIENCE_S, **named: Any) -> T:
        """The answer to a request that may be repeated.

        Args:
            request: a method of kfp_server_api, made with `api`.
            values: its arguments.
            patience_s: how long to ask again while the server is busy.
            named: its arguments by name.

        Raises:
            Busy: it was busy for so long.
            ServerError: it refuses.
        """
        return self._until_answered(lambda: self.once(request, *values, **named), patience_s)

    def ensure(self, find: Callable[[], T | None], make: Callable[[], T]) -> T:
        """What `find` finds, or else what `make` makes; both call `once`.

        A server that breaks off may have made it all the same, so it is looked for before it is made again. A server
        that lists it later than that ends up with two; Kubeflow has no request that would prevent it.

        Raises:
            ServerError: as `ask`.
        """
        return self._until_answered(lambda: find() or make(), PATIENCE_S)

    def once(self, request: Callable[..., T], *values: Any, **named: Any) -> T:
        """The answer to a request that is sent once.

        Raises:
            Busy: asking again may help.
            ServerError: it does not.
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
                log.info("%s; asked again in %g s", error, pause_s)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _sentence(self, error: kfp_server_api.ApiException) -> str:
        said = f"{error.status}: {_message(error)}"
        if error.status in (401, 403):
            todo = f"the token of {TOKEN} is none that may do this" if self._has_token else f"put a token into {TOKEN}"
            return f"{self.host} does not let you in ({said}); {todo}"
        if error.status in BUSY:
            return f"{self.host} is busy ({said})"
        if error.status >= 500:
            return f"{self.host} failed ({said}); the log of its API server says more"
        if error.status >= 400:
            return f"{self.host} refuses this ({said}); correct it and submit again"
        place = (error.headers or {}).get("location")
        return f"{self.host} sends on to {place} ({error.status}); give the address of the API, and a token in {TOKEN}"


class _JsonClient(kfp_server_api.ApiClient):  # type: ignore[misc]
    """kfp's client, except that it takes no page for data: a proxy in front of the API shows one to strangers."""

    def deserialize(self, response: Any, response_type: Any) -> Any:
        try:
            json.loads(response.data)
        except ValueError:
            host = self.configuration.host
            raise ServerError(
                f"{host} answers with a page and not with data; give the address of the API, and a token in {TOKEN}"
            ) from None
        return super().deserialize(response, response_type)


def checked(host: str) -> str:
    """The address of a server, without a slash at its end.

    Raises:
        ServerError: it is none.
    """
    parts = urlsplit(host)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment or parts.username:
        raise ServerError(
            f"--host is {host!r}; expected http://NAME or https://NAME with a port and a path if need be, as of the UI "
            "up to the #, and without a password"
        )
    return host.rstrip("/")


def _authorise(configuration: Any, environment: Mapping[str, str]) -> bool:
    """Say who is asking; returns whether anything is known about that."""
    token = environment.get(TOKEN, "").strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ServerError(f"{TOKEN} is no token; expected one line of ASCII without blanks")
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
    """What the server says, in one line."""
    try:
        document = json.loads(error.body)
    except (TypeError, ValueError):  # nothing, or a page of a proxy
        return str(error.reason)
    message = document.get("message") if isinstance(document, dict) else None
    return " ".join(str(message or error.body).split())[:500]
