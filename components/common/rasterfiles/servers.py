"""Requests to a web server or an S3 bucket for ranges of bytes; a request that fails is repeated.

Address and keys of S3 come from the `AWS_*` variables, as everywhere in boto3.
"""

from __future__ import annotations

import logging
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import lru_cache
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.error import HTTPError

from components.common.errors import DataError, TemporaryError, reason

log = logging.getLogger(__name__)

S3, WEB = "s3://", ("https://", "http://")

PATIENCE_S = 120.0
"""A request is repeated for so long."""

PAUSES_S = 0.25, 15.0
"""Shortest and longest pause before a request is repeated; each is twice as long as the one before."""

TIMEOUT_S = 30
"""A server that sends nothing for so long does not answer."""

TRANSIENT = {408, 425, 429}
"""Answers, in addition to 500 and above, that may be others at the next try."""

T = TypeVar("T")


class Refused(Exception):
    """The server's final answer; `status` is that of HTTP."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Unavailable(Exception):
    """No answer, an incomplete one, or one that may be another at the next try."""


def is_remote(name: str) -> bool:
    """Whether a name is a URL that this module reads."""
    return name.startswith((S3, *WEB))


def patiently(name: str, attempt: Callable[[], T]) -> T:
    """The result of a request, repeated with pauses while the server does not answer.

    Args:
        name: URL, for messages.
        attempt: raises `Refused` or `Unavailable`.

    Raises:
        DataError: the server refuses.
        TemporaryError: the server does not answer for `PATIENCE_S`.
    """
    until, pause_s = time.monotonic() + PATIENCE_S, PAUSES_S[0]
    while True:
        try:
            return attempt()
        except Refused as error:
            raise DataError(f"{name}: {_remedy(name, error)}") from None
        except Unavailable as error:
            if time.monotonic() + pause_s > until:
                raise TemporaryError(
                    f"{name}: the server does not answer ({error}); run the same command again later"
                ) from None
            log.warning("%s: %s; trying again in %.3g s", name, error, pause_s)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSES_S[1])


def matching(pattern: str) -> list[str]:
    """Objects of a bucket whose URL matches a pattern, sorted; `*` does not match `/`.

    Raises:
        DataError, TemporaryError: as with `patiently`.
    """
    bucket, _, key = pattern.removeprefix(S3).partition("/")
    prefix = key[: min(key.find(sign) for sign in "*?[" if sign in key)]

    def attempt() -> list[str]:
        with _s3_errors():
            pages = _s3().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    parts = key.split("/")
    return [
        f"{S3}{bucket}/{found}"
        for found in sorted(patiently(pattern, attempt))
        if len(names := found.split("/")) == len(parts) and all(map(fnmatchcase, names, parts))
    ]


def byte_range(path: str, start: int, stop: int) -> tuple[bytes, int]:
    """Bytes of a file and its size. Raises `Refused` or `Unavailable`."""
    content, stated = (_from_s3 if path.startswith(S3) else _from_web)(path, f"bytes={start}-{stop - 1}")
    try:
        size = int(stated.rpartition("/")[2])
    except ValueError:
        raise Refused(200, "the server cannot send parts of files; download it first") from None
    if len(content) != min(stop, size) - start:
        raise Unavailable(f"{len(content)} of {stop - start} bytes arrived")
    return content, size


def _from_web(url: str, wanted: str) -> tuple[bytes, str]:
    request = urllib.request.Request(url, headers={"Range": wanted, "User-Agent": "mobanet"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            stated = answer.headers.get("Content-Range", "")
            return answer.read() if stated else b"", stated
    except HTTPError as error:
        raise _error(error.code, f"{error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise Unavailable(reason(error)) from None


def _from_s3(uri: str, wanted: str) -> tuple[bytes, str]:
    bucket, _, key = uri.removeprefix(S3).partition("/")
    with _s3_errors():
        answer = _s3().get_object(Bucket=bucket, Key=key, Range=wanted)
        return answer["Body"].read(), answer.get("ContentRange", "")


def _error(status: int, why: str) -> Refused | Unavailable:
    return Unavailable(why) if status >= 500 or status in TRANSIENT else Refused(status, why)


def _remedy(name: str, error: Refused) -> str:
    if error.status == 404:
        return "the server has no such file; correct the name"
    if error.status in (401, 403):
        keys = "check the AWS_* variables" if name.startswith(S3) else "check the address"
        return f"the server refuses access ({error}); {keys}"
    return str(error)


@contextmanager
def _s3_errors() -> Iterator[None]:
    """Turn what boto3 raises into `Refused` or `Unavailable`."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

    try:
        yield
    except ClientError as error:
        raise _error(error.response["ResponseMetadata"]["HTTPStatusCode"], reason(error)) from None
    except (HTTPClientError, IncompleteReadError, OSError, HTTPException) as error:
        raise Unavailable(reason(error)) from None
    except BotoCoreError as error:  # no credentials, no such profile
        raise Refused(401, reason(error)) from None


def _s3() -> Any:
    return _client(tuple(sorted(pair for pair in os.environ.items() if pair[0].startswith("AWS_"))))


@lru_cache(maxsize=4)
def _client(_: tuple[tuple[str, str], ...]) -> Any:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    unsigned = os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in ("yes", "true", "1", "on")
    config = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=TIMEOUT_S,
        read_timeout=TIMEOUT_S,
        signature_version=UNSIGNED if unsigned else None,
        max_pool_connections=32,
    )
    return boto3.Session().client("s3", config=config)
