"""components/register/uploads/shared_files.py: a model whose files are on one machine only is not registered."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from components.common.errors import TrackingError
from components.register.uploads import shared_files
from components.register.uploads.shared_files import require_seen_by_server

MODEL_ID = "m-1"


@pytest.fixture
def server(monkeypatch):
    """Function that sets the address of the store, where it keeps files, and the files that it finds itself."""

    def call(uri: str, location: str, *files: str) -> SimpleNamespace:
        listed = {"files": [{"path": file, "is_dir": False} for file in files]} if files else {}
        answer = SimpleNamespace(status_code=200, text=json.dumps(listed), json=lambda: listed)
        asked: list[str] = []

        def request(_, endpoint: str, method: str) -> SimpleNamespace:
            asked.append(endpoint)
            return answer

        monkeypatch.setattr(shared_files, "store", lambda: uri)
        monkeypatch.setattr("mlflow.utils.rest_utils.http_request", request)
        client = SimpleNamespace(get_logged_model=lambda model_id: SimpleNamespace(artifact_location=location))
        return SimpleNamespace(client=client, asked=asked)

    return call


@pytest.mark.parametrize("location", ["/srv/mlruns/1/models/m-1/artifacts", "file:///srv/mlruns/1"])
def test_files_that_only_this_machine_has_are_refused(server, location) -> None:
    found = server("http://mlflow:5000", location)
    with pytest.raises(TrackingError, match=f"they are in {location} on this machine only; start the server without"):
        require_seen_by_server(found.client, MODEL_ID, "MLmodel")
    assert found.asked == ["/api/2.0/mlflow/logged-models/m-1/artifacts/directories"]


def test_a_folder_that_the_server_shares_is_accepted(server) -> None:
    found = server("http://localhost:5000", "/srv/mlruns/1", "MLmodel")
    require_seen_by_server(found.client, MODEL_ID, "MLmodel")
    assert found.asked


@pytest.mark.parametrize(
    ("uri", "location"),
    [("http://mlflow:5000", "mlflow-artifacts:/1"), ("http://mlflow:5000", "s3://b/1"), ("sqlite:///a.db", "/srv/1")],
)
def test_places_that_every_client_reads_are_not_asked_for(server, uri, location) -> None:
    found = server(uri, location)
    require_seen_by_server(found.client, MODEL_ID, "MLmodel")
    assert not found.asked
