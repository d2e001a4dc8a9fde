"""The store that `MLFLOW_TRACKING_URI` names: connect to it, look up runs and experiments, close lost runs.

The first contact finds what would otherwise fail after the training: a store that cannot be used, a server that is too
old, a store whose folder was moved. MLflow is imported on use, so a machine that tracks nothing does not need it.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from components.common.errors import TrackingError, root
from components.common.tracking import sqlite_store
from components.common.tracking.addresses import explained, kind, misread, plugin, shown
from components.common.tracking.answers import (
    HTTP_CODE,
    NO_ENDPOINT,
    UnreachableError,
    absent,
    is_temporary,
    retried,
    status,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

log = logging.getLogger(__name__)

REMEDY = "start the server, correct MLFLOW_TRACKING_URI, or set runtime.tracking: none"

CREDENTIALS_REMEDY = "correct MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"

OLDEST = (3, 0)
"""Oldest version of a server: it stores logged models."""

SAFE = (3, 17)
"""Oldest version that numbers the versions of a model without gaps or duplicates when several clients register."""

AUTH = "MLFLOW_TRACKING_AUTH"
"""Environment variable that names a provider of credentials."""


def connect() -> MlflowClient:
    """A client for the store that the environment names, checked with quick requests. Quiets MLflow's own output.

    Raises:
        UnreachableError: the store does not answer.
        TrackingError: MLflow is not installed, or the store cannot be used.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # seconds per call instead of the default 4 minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")  # seconds that training waits for an answer; default 120
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if importlib.util.find_spec("mlflow") is None:
        raise TrackingError("MLflow is not installed here; run `pip install mlflow`, or set runtime.tracking: none")
    uri = store()
    if misread(uri):
        raise TrackingError(
            f"cannot use the MLflow store {shown(uri)} (its user name or password contains @, /, ? or #); write "
            "these characters as %40, %2F, %3F and %23 in MLFLOW_TRACKING_URI"
        )
    try:
        return _first_contact(uri)
    except TrackingError:
        raise
    except Exception as error:  # requests, SQLAlchemy, a missing database driver, MLflow
        raise _unusable(uri, error) from None


def _first_contact(uri: str) -> MlflowClient:
    """A client after one successful request, without the minutes of retries that MLflow spends on a dead store."""
    import mlflow

    _require_auth_provider()
    if kind(uri) == "database":
        with sqlite_store.creation(uri):
            sqlite_store.require_tables(uri)
            client = mlflow.MlflowClient()
            client.search_experiments(max_results=1)
        sqlite_store.require_place(uri)
        return client
    with environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT="10"):
        client = mlflow.MlflowClient()
        again = _answered if kind(uri) == "server" else _never
        retried(lambda: client.search_experiments(max_results=1), "list experiments", again=again, remedy=REMEDY)
        _require_features(uri)
    return client


def _answered(error: BaseException) -> bool:
    """Whether a server or a proxy in front of it answered that it is not ready, or denied access for the moment."""
    from mlflow.exceptions import RestException
    from urllib3.exceptions import ResponseError

    answer = isinstance(root(error), ResponseError | RestException) or HTTP_CODE.search(str(error)) is not None
    return answer and is_temporary(error) and status(error) != 401


def _never(error: BaseException) -> bool:
    """No attempt is repeated: services with their own clients repeat requests themselves."""
    return False


def _unusable(uri: str, error: BaseException) -> TrackingError:
    """The error for a store that first contact could not use."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException

    if isinstance(error, UnsupportedModelRegistryStoreURIException):
        package = plugin(uri)
        remedy = f"run `pip install {package}`" if package else "correct MLFLOW_TRACKING_URI"
        return TrackingError(f"cannot use the MLflow store {shown(uri)} (MLflow does not know its scheme); {remedy}")
    if kind(uri) == "other":  # MLflow's own sentence names the remedy
        remedy = "correct MLFLOW_TRACKING_URI or its credentials, or set runtime.tracking: none"
        return TrackingError(f"cannot use the MLflow store {shown(uri)} ({explained(error, uri, 500)}); {remedy}")
    remedy = CREDENTIALS_REMEDY if status(error) == 401 else REMEDY
    if os.environ.get(AUTH) and isinstance(root(error), MlflowException):  # the token is missing or was not accepted
        remedy = f"check the credentials that {AUTH} names"
    return UnreachableError(f"cannot use the MLflow store {shown(uri)} ({explained(root(error), uri)}); {remedy}")


def _require_auth_provider() -> None:
    """Check the provider of credentials, because MLflow sends requests without any if it does not have it."""
    from mlflow.tracking.request_auth.registry import _request_auth_provider_registry

    wanted = os.environ.get(AUTH)
    known = sorted(provider.get_name() for provider in _request_auth_provider_registry)
    if wanted and wanted not in known:
        raise TrackingError(
            f"{AUTH} is {wanted!r}, but MLflow here has only {', '.join(known)}; install the plugin that provides it, "
            f"or correct {AUTH}"
        )


@functools.cache
def _require_features(uri: str) -> None:
    """Check once that a server stores logged models, and warn about one that numbers versions unsafely."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        mlflow.MlflowClient().search_logged_models(experiment_ids=["0"], max_results=1)
    except MlflowException as error:
        if error.error_code == NO_ENDPOINT or status(error) == 501:
            version = _server_version(uri)
            raise TrackingError(
                f"the MLflow server {shown(uri)} (version {version or 'unknown'}) does not store logged models, which "
                f"the register step needs; use MLflow {'.'.join(map(str, OLDEST))} or newer there"
            ) from None
        log.debug("no answer about logged models: %s", error)
    version = _server_version(uri)
    if version and tuple(map(int, re.findall(r"\d+", version)[:2])) < SAFE:
        log.warning(
            "the MLflow server %s has version %s; before %s, simultaneous registrations of models can fail",
            *(shown(uri), version, ".".join(map(str, SAFE))),
        )


def _server_version(uri: str) -> str:
    """Version of an MLflow server; empty if it does not tell."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    if kind(uri) != "server":
        return ""
    try:
        answer = http_request(get_default_host_creds(uri), "/version", "GET")  # type: ignore[no-untyped-call]
    except Exception:  # the version only improves a message
        return ""
    return answer.text.strip() if answer.ok and re.fullmatch(r"\d+(\.\w+)+", answer.text.strip()) else ""


def is_known(client: MlflowClient, run_id: str) -> bool:
    """Whether the store contains this run and it is not deleted.

    Raises:
        UnreachableError: the store does not answer.
    """
    try:
        found = retried(lambda: client.get_run(run_id), f"read run {run_id}")
    except Exception as error:
        if absent(error):
            return False
        raise
    return bool(found.info.lifecycle_stage == "active")


def experiment_id(client: MlflowClient, name: str, setting: str = "runtime.experiment") -> str:
    """Id of the experiment of this name; it is created if it does not exist.

    Raises:
        UnreachableError: the store does not answer.
        TrackingError: the experiment was deleted.
    """
    from mlflow.exceptions import MlflowException

    def look_up() -> Experiment | None:
        return retried(lambda: client.get_experiment_by_name(name), f"look up experiment {name}")

    found = look_up()
    if found is None:
        try:
            return client.create_experiment(name)
        except MlflowException as error:
            found = look_up()  # created by another process in the meantime
            if found is None:
                raise error from None
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the experiment {name} was deleted in {address()}; restore it with `mlflow experiments restore -x "
            f"{found.experiment_id}`, or set {setting} to another name"
        )
    return str(found.experiment_id)


def run_page(run_id: str) -> str | None:
    """URL of a run's web page; None if the store is not an MLflow server."""
    import mlflow

    parts = urlsplit(mlflow.get_tracking_uri())
    if parts.scheme not in ("http", "https"):
        return None
    client = mlflow.MlflowClient()
    experiment = retried(lambda: client.get_run(run_id), f"read run {run_id}").info.experiment_id
    server = parts.netloc.rpartition("@")[2]  # without user name and password
    return f"{parts.scheme}://{server}{parts.path.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"


def end_runs(tags: Mapping[str, str], status: Literal["FINISHED", "FAILED"]) -> tuple[str, ...]:
    """Close the runs with these tags that are still open because their process was lost. Returns their ids.

    Raises:
        TrackingError: the store cannot be reached.
    """
    client = connect()
    conditions = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(everywhere, " and ".join(["attributes.status = 'RUNNING'", *conditions]))
    for number in [run.info.run_id for run in found]:
        retried(partial(client.set_terminated, number, status), f"close run {number}")
    return tuple(run.info.run_id for run in found)


def store() -> str:
    """URI of the store, with its password; messages use `address`."""
    import mlflow

    return mlflow.get_tracking_uri()


def address() -> str:
    """Address of the store for messages, with the password masked."""
    return shown(store())


def quoted(error: BaseException) -> str:
    """The first line of an error for a message, with the passwords of the store masked."""
    return explained(error, store())


@contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """Set environment variables inside the block and restore them afterwards; None unsets one."""
    before = {name: os.environ.get(name) for name in values}
    _set_environment(values)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
