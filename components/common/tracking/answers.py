"""What an answer of MLflow means: the entry does not exist, the request is refused for good, or ask again later.

Only one answer means that a run, model or version does not exist. A server that is busy, restarts or denies access
for a moment has not answered, so the request is repeated.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar

from components.common.errors import TrackingError, root
from components.common.tracking.addresses import explained, shown

T = TypeVar("T")

PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Pauses between attempts, seconds."""

PATIENCE_S = 60.0
"""Time after which no further attempt starts; each attempt can take long, because MLflow waits for an answer."""

TEMPORARY = frozenset({401, 403, 408, 425, 429, 499})
"""HTTP codes below 500 after which a request may be accepted later, for example once a login is renewed."""

REMEDY = "check the server and your permissions, then run the same command again"

HTTP_CODE = re.compile(r"failed with error code (\d{3})")

NO_ENDPOINT = "ENDPOINT_NOT_FOUND"
"""MLflow's code for a 404 without an explanation, for example of a proxy that has lost its server."""


class RefusedError(Exception):
    """The store will never accept a request."""


class UnreachableError(TrackingError):
    """The store does not answer; the same request can succeed later."""


def absent(error: BaseException) -> bool:
    """Whether the store answered that the entry does not exist. No other answer means this."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code == "RESOURCE_DOES_NOT_EXIST"


def is_refusal(error: BaseException) -> bool:
    """Whether a request was refused for good: it is invalid, so that no other attempt can succeed."""
    if getattr(error, "error_code", None) == NO_ENDPOINT:
        return False
    code = status(error)
    refused = code is not None and 400 <= code < 500 and code not in TEMPORARY
    return refused or type(error) in (RefusedError, ValueError, TypeError)


def status(error: BaseException) -> int | None:
    """HTTP code of an answer of MLflow, of a web server (requests) or of S3 (boto3); None: the error is no answer."""
    from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS, MlflowException

    if isinstance(error, MlflowException):  # for an answer without MLflow's own code, only the message has the number
        number = HTTP_CODE.search(str(error))
        return int(number[1]) if number else ERROR_CODE_TO_HTTP_STATUS.get(error.error_code, 500)
    for found in (error, root(error)):
        response = getattr(found, "response", None)
        if isinstance(response, dict):
            code = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            code = getattr(response, "status_code", None)
        if isinstance(code, int):
            return code
    return None


def is_temporary(error: BaseException) -> bool:
    """Whether the same request can succeed later: an outage, an overload, or a login that is being renewed."""
    import requests  # type: ignore[import-untyped]
    import sqlalchemy

    outages = (requests.RequestException, sqlalchemy.exc.OperationalError, ConnectionError, TimeoutError)
    if is_refusal(error):
        return False
    return status(error) is not None or any(isinstance(found, outages) for found in (error, root(error)))


def retried(
    call: Callable[[], T], what: str, *, again: Callable[[BaseException], bool] = is_temporary, remedy: str = REMEDY
) -> T:
    """The result of a request, which is repeated for some seconds while the store does not answer it.

    Args:
        call: the request; it must be harmless to repeat.
        what: what it does, as a verb, for the message: `read run 12`.
        again: whether an error is worth another attempt.
        remedy: what to do if no attempt succeeds.

    Raises:
        UnreachableError: the last attempt failed with a temporary error. All other errors pass unchanged.
    """
    start = time.monotonic()
    for pause in PAUSES_S:
        try:
            return call()
        except Exception as error:  # MLflow, requests, SQLAlchemy
            if not again(error):
                raise
            if time.monotonic() - start > PATIENCE_S:
                raise _unreachable(error, what, remedy) from None
        time.sleep(pause)
    try:
        return call()
    except Exception as error:
        if not again(error):
            raise
        raise _unreachable(error, what, remedy) from None


def _unreachable(error: BaseException, what: str, remedy: str) -> UnreachableError:
    import mlflow

    uri = mlflow.get_tracking_uri()
    return UnreachableError(f"cannot {what} in {shown(uri)} ({explained(_telling(error), uri)}); {remedy}")


def _telling(error: BaseException) -> BaseException:
    """The error that tells most: the server's answer, or the first of the errors that MLflow wrapped."""
    from mlflow.exceptions import RestException

    return error if isinstance(error, RestException) else root(error)
