"""Whether the files of an upload are where others can read them.

A server that does not serve artifacts (`--no-serve-artifacts`) and whose artifact root is a folder tells every client
to write to that folder. A client on another machine then writes to a folder of its own, which nobody else can read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.common.errors import TrackingError
from components.common.tracking.addresses import kind
from components.common.tracking.answers import retried
from components.common.tracking.server import address, store

if TYPE_CHECKING:
    from mlflow import MlflowClient


def require_seen_by_server(client: MlflowClient, model_id: str, file: str) -> None:
    """Check that the server sees a file of a logged model, if MLflow stores it in a folder.

    Args:
        client: client of the MLflow store.
        model_id: the logged model.
        file: name of the file, which this machine can read.

    Raises:
        TrackingError: the server does not see the file, or does not answer.
        MlflowException: the server rejects the request.
    """
    if kind(store()) != "server":
        return
    location = client.get_logged_model(model_id).artifact_location
    if not location.startswith(("/", "file:")):
        return
    if file not in retried(lambda: _listed(model_id), f"list the files of {model_id}"):
        raise TrackingError(
            f"the MLflow server {address()} does not see the files of {model_id}, because they are in {location} on "
            "this machine only; start the server without --no-serve-artifacts, or with a bucket as "
            "--default-artifact-root, then train and register in a new experiment"
        )


def _listed(model_id: str) -> set[str]:
    """Names of the files that the server finds."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    endpoint = f"/api/2.0/mlflow/logged-models/{model_id}/artifacts/directories"
    answer = http_request(get_default_host_creds(store()), endpoint, "GET")  # type: ignore[no-untyped-call]
    verify_rest_response(answer, endpoint)
    return {entry["path"].rpartition("/")[2] for entry in answer.json().get("files", [])}
