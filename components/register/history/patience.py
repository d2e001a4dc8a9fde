"""A client of MLflow that repeats a request for some seconds while the server does not answer it.

A registration must not stop half-way because a server restarts. Requests that are harmless to repeat are repeated as
they are. The one that creates a version is repeated only after a look whether the first attempt arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from components.common.tracking.answers import is_temporary, retried

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

CREATES = frozenset({"create_model_version", "create_logged_model"})
"""Requests that make something new each time."""


CHANGES = ("set_", "delete_", "update_")
"""Beginnings of requests that change an entry; two that arrive together can collide in MLflow's tables."""


class PatientClient:
    """An `MlflowClient` whose harmless requests are repeated; every other attribute is that of the client."""

    def __init__(self, client: MlflowClient) -> None:
        """Use a client; no request is made."""
        self._client = client

    def __getattr__(self, name: str) -> Any:
        """A method of the client."""
        method = getattr(self._client, name)
        if name in CREATES or not callable(method):
            return method
        again = _collided if name.startswith(CHANGES) else is_temporary
        return lambda *args, **options: retried(lambda: method(*args, **options), name.replace("_", " "), again=again)


def _collided(error: BaseException) -> bool:
    """Whether a change is worth another attempt: MLflow calls a row that another process has just added BAD_REQUEST."""
    return is_temporary(error) or getattr(error, "error_code", None) == "BAD_REQUEST"


def patient(client: MlflowClient) -> MlflowClient:
    """The client with repeated requests."""
    return client if isinstance(client, PatientClient) else PatientClient(client)  # type: ignore[return-value]


def created(create: Callable[[], T], find: Callable[[], T | None], what: str) -> T:
    """Create something once, although the answer to the request may be lost.

    Args:
        create: the request.
        find: what an earlier attempt created; None: it did not arrive.
        what: what the request does, as a verb, for the message of an error.

    Raises:
        TrackingError: no attempt succeeded.
    """
    attempts = 0

    def attempt() -> T:
        nonlocal attempts
        attempts += 1
        found = find() if attempts > 1 else None
        return create() if found is None else found

    return retried(attempt, what)
