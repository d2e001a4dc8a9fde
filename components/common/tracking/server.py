"""The store that `MLFLOW_TRACKING_URI` names: connect to it, look up runs and experiments, close lost runs.

MLflow is imported on use, so a machine that tracks nothing does not need it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from components.common.errors import TrackingError, reason, root

if TYPE_CHECKING:
    from mlflow import MlflowClient


def connect() -> MlflowClient:
    """A client for the store that the environment names, checked with one quick request. Quiets MLflow's own output.

    Raises:
        TrackingError: MLflow is not installed, or the store cannot be reached.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # seconds per call instead of the default 4 minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")  # seconds that training waits for an answer; default 120
    logging.getLogger("alembic").setLevel(logging.WARNING)
    if importlib.util.find_spec("mlflow") is None:
        raise TrackingError("MLflow is not installed here; run `pip install mlflow`, or set runtime.tracking: none")
    import mlflow

    uri = mlflow.get_tracking_uri()
    try:
        return _first_contact(uri)
    except Exception as error:  # requests, SQLAlchemy, a missing database driver, MLflow: the remedy is the same
        raise TrackingError(
            f"cannot use the MLflow store {_without_password(uri)} ({reason(root(error))}); "
            "start the server, correct MLFLOW_TRACKING_URI, or set runtime.tracking: none"
        ) from None


def _first_contact(uri: str) -> MlflowClient:
    """A client after one successful request, without the minutes of retries that MLflow spends on a dead store."""
    import mlflow

    if not uri.startswith(("http://", "https://")):
        import sqlalchemy

        patience = {"connect_timeout": 5} if urlsplit(uri).hostname else {}
        engine = sqlalchemy.create_engine(uri, connect_args=patience)
        sqlalchemy.inspect(engine).get_table_names()
        engine.dispose()
    with environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT="10"):
        client = mlflow.MlflowClient()
        client.search_experiments(max_results=1)
    return client


class RefusedError(Exception):
    """The store will never accept a request."""


TEMPORARY = frozenset({401, 403, 408, 429})
"""HTTP codes below 500 after which a request may be accepted later, for example once a login is renewed."""


def is_refusal(error: Exception) -> bool:
    """Whether a request was refused for good: it is invalid, so that no other attempt can succeed."""
    from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS, MlflowException

    if isinstance(error, MlflowException):
        code = ERROR_CODE_TO_HTTP_STATUS.get(error.error_code, 500)
    else:
        code = getattr(getattr(error, "response", None), "status_code", 500)  # requests
    return (400 <= code < 500 and code not in TEMPORARY) or type(error) in (RefusedError, ValueError, TypeError)


def is_known(client: MlflowClient, run_id: str) -> bool:
    """Whether the store contains this run and it is not deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def experiment_id(client: MlflowClient, name: str) -> str:
    """Id of the experiment of this name; it is created if it does not exist."""
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name)


def run_page(run_id: str) -> str | None:
    """URL of a run's web page; None if the store is not an MLflow server."""
    import mlflow

    parts = urlsplit(mlflow.get_tracking_uri())
    if parts.scheme not in ("http", "https"):
        return None
    experiment = mlflow.MlflowClient().get_run(run_id).info.experiment_id
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
    for run in found:
        client.set_terminated(run.info.run_id, status)
    return tuple(run.info.run_id for run in found)


def address() -> str:
    """Address of the store for messages, with the password masked."""
    import mlflow

    return _without_password(mlflow.get_tracking_uri())


def _without_password(uri: str) -> str:
    password = urlsplit(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri


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
