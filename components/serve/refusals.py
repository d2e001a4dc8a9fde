"""Requests that are refused: an HTTP status and one sentence, without paths of this machine."""

from __future__ import annotations

import re
from pathlib import Path

from components.common.errors import (
    DataError,
    MobanetError,
    NonFiniteError,
    ParamsError,
    TemporaryError,
    TrackingError,
    WeightsError,
)

STATUS: dict[type[BaseException], int] = {
    DataError: 422,
    ParamsError: 422,
    MemoryError: 413,
    NonFiniteError: 500,
    TemporaryError: 502,
    TrackingError: 503,
    WeightsError: 503,
}
"""Error -> HTTP status of the answer."""

OPTION = re.compile(r"--(allow|bands|crs)(?: ([\w,:.-]+))?")
"""Options of `mobanet predict` that are query parameters of the service."""


class RequestError(MobanetError):
    """A request that the service refuses."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers or {}


def bad(sentence: str) -> RequestError:
    """A request that is malformed."""
    return RequestError(400, sentence)


def no_model() -> RequestError:
    """A request while the service has no model."""
    return RequestError(503, "the service has no model; try again later", {"Retry-After": "5"})


def status_of(error: BaseException) -> int:
    """HTTP status of an error; 500: a bug."""
    if isinstance(error, RequestError):
        return error.status
    return next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)


def sentence_of(error: BaseException, folder: Path | None = None) -> str:
    """What a client is told about an error.

    Args:
        error: the error.
        folder: temporary folder of the request, whose path is left out.
    """
    if isinstance(error, MemoryError):
        return "the request needs more memory than the service has; send smaller parts"
    text = " ".join(str(error).split())
    if folder is not None:
        text = text.replace(f"{folder}/", "").replace(str(folder), "the request")
    text = text.replace("data.crs", "the query parameter crs")
    text = OPTION.sub(lambda found: f"{found[1]}={found[2]}" if found[2] else f"the query parameter {found[1]}", text)
    return re.sub(r"--(image|dsm)\b", r"\1", text)
