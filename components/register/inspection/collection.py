"""Find what interrupted or failed registrations left in MLflow: uploads without version, versions without files.

A version that has an alias or an entry in the history is reported, but never marked or deleted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from components.common.tracking.packages import MODEL_FILE, RECORD
from components.common.tracking.registered_models import logged_model_of
from components.common.tracking.server import quoted
from components.register.history.registry import Registry, Version
from components.register.uploads.logged_model import NAME

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

UNUSABLE = "unusable"
"""Tag of a version or logged model that can be deleted; its value is the reason."""

FILES = (MODEL_FILE, RECORD)
"""Files without which a version cannot be used."""

PAGE = 100


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that cannot be used."""

    kind: Literal["upload", "version"]
    id: str  # id of the logged model, or version number
    problem: str
    action: Literal["marked", "deleted", "kept"]


def collect(registry: Registry, *, delete: bool, min_age_h: float) -> tuple[Leftover, ...]:
    """Mark or delete uploads without version, and versions whose files are missing.

    Args:
        registry: the registered model whose versions are checked. Uploads of all models of this project are checked.
        delete: delete instead of marking with a tag.
        min_age_h: younger uploads are left alone, because they may still be in progress; hours.

    Raises:
        MlflowException: MLflow rejects a request.
    """
    return (*_versions(registry, delete), *_uploads(registry, delete, time.time() - 3600 * min_age_h))


def _versions(registry: Registry, delete: bool) -> Iterator[Leftover]:
    client, aliases = registry.ledger.client, set(registry.aliases().values())
    recorded = {event.version for event in registry.history().events}
    for version in registry.versions():
        problem, certain = _problem(registry, version)
        if problem is None:
            continue
        if version.number in aliases | recorded:
            yield Leftover("version", version.number, f"{problem}; it has an alias or a history", "kept")
        elif not certain:
            yield Leftover("version", version.number, problem, "kept")
        elif delete:
            client.delete_model_version(registry.name, version.number)
            yield Leftover("version", version.number, problem, "deleted")
        else:
            client.set_model_version_tag(registry.name, version.number, UNUSABLE, problem)
            yield Leftover("version", version.number, problem, "marked")


def _problem(registry: Registry, version: Version) -> tuple[str | None, bool]:
    """What is wrong with the files of a version, and whether that is certain."""
    import mlflow.artifacts

    try:
        found = mlflow.artifacts.list_artifacts(artifact_uri=f"models:/{registry.name}/{version.number}")
    except Exception as error:  # a server or bucket that does not answer: the files may exist
        return f"its files could not be listed ({quoted(error)})", False
    names = {entry.path.rpartition("/")[2] for entry in found}
    missing = [name for name in FILES if name not in names]
    return (f"{missing[0]} is missing in the artifact store", True) if missing else (None, True)


def _uploads(registry: Registry, delete: bool, before_s: float) -> Iterator[Leftover]:
    """Logged models of this project without version, created before a time in seconds since 1970."""
    client, used = registry.ledger.client, _used(registry)
    for model in _logged_models(registry):
        if model.model_id in used or model.creation_timestamp > 1000 * before_s:
            continue
        problem = f"upload of {_day(model.creation_timestamp)} without version, status {model.status.value}"
        if delete:
            client.delete_logged_model(model.model_id)
        else:
            client.set_logged_model_tags(model.model_id, {UNUSABLE: problem})
        yield Leftover("upload", model.model_id, problem, "deleted" if delete else "marked")


def _used(registry: Registry) -> set[str]:
    """Ids of the logged models of all versions of all registered models."""
    found: set[str] = set()
    token = None
    while True:
        page = registry.ledger.client.search_model_versions(max_results=PAGE, page_token=token)
        found |= {model_id for version in page if (model_id := logged_model_of(version)) is not None}
        token = page.token
        if not token:
            return found


def _logged_models(registry: Registry) -> list[LoggedModel]:
    client = registry.ledger.client
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found: list[LoggedModel] = []
    token = None
    while True:
        page = client.search_logged_models(experiments, f"name = '{NAME}'", max_results=PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _day(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time_ms / 1000))
