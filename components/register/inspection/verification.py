"""Verify a registered version link by link: history, files, signature, evaluation, tags, run, network, stored crops.

In: a registered version. Out: one `Link` per check. A check needs those before it, so the first broken link is the last
one of its version.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.common.errors import MobanetError, TrackingError
from components.common.inference.modelfile import ModelFacts, load_model
from components.common.inference.stored_crops import FILE as CROPS
from components.common.inference.stored_crops import require_same_logits
from components.common.tracking import server
from components.common.tracking.packages import EVALUATION, MODEL_FILE, read_record
from components.common.tracking.registered_models import PACKAGE_SHA256, fetch_package
from components.common.trust.config import TrustConfig
from components.common.trust.signature_check import UNCHECKED, check_package
from components.register.history.aliases import settle
from components.register.history.registry import RUN_ID, Registry, Version
from components.register.uploads.admission import Candidate, read_json
from components.register.uploads.version_tags import tags_of
from model import MoBaNet


@dataclass(frozen=True, slots=True)
class Link:
    """One check of a version."""

    name: str
    passed: bool
    detail: str  # one sentence


@dataclass(slots=True)
class _Copy:
    """A version, and what its checks have read of it so far."""

    registry: Registry
    version: Version
    folder: Path
    trust: TrustConfig
    record: Mapping[str, Any] = field(default_factory=dict)
    network: tuple[MoBaNet, ModelFacts] | None = None

    @property
    def uri(self) -> str:
        return f"models:/{self.registry.name}/{self.version.number}"


def verify(registry: Registry, version: Version, trust: TrustConfig = UNCHECKED) -> tuple[Link, ...]:
    """Check the history of a registered model, then a version until a link is broken.

    The section `trust` says whether its signature is checked.

    Raises:
        MlflowException: MLflow rejects a request.
    """
    links = [_checked("history", lambda: _history(registry, version))]
    with tempfile.TemporaryDirectory() as folder:
        copy = _Copy(registry, version, Path(folder), trust)
        for name, check in CHECKS.items():
            links.append(_checked(name, lambda check=check: check(copy)))  # type: ignore[misc]
            if not links[-1].passed:
                break
    return tuple(links)


def first_broken(links: tuple[Link, ...]) -> Link | None:
    """The first link that is broken; None: all hold."""
    return next((link for link in links if not link.passed), None)


def _checked(name: str, check: Callable[[], str]) -> Link:
    try:
        return Link(name, True, check())
    except MobanetError as error:
        return Link(name, False, str(error))


def _history(registry: Registry, version: Version) -> str:
    settled, history = settle(registry), registry.history()
    if settled.by_hand:
        raise TrackingError(settled.sentence(registry.name))
    lost = [*history.missing, *(event.number for event in history.events if event.kind == "unreadable")]
    if lost:
        raise TrackingError(
            f"event {lost[0]} of {registry.ledger.name} was deleted or changed; restore the database of MLflow, or "
            "promote the right champion again"
        )
    identity = version.tags.get(PACKAGE_SHA256)
    odd = [
        event for event in history.events if event.version == version.number and event.digest not in (None, identity)
    ]
    if odd:
        raise TrackingError(
            f"the tag {PACKAGE_SHA256} of {registry.name}/{version.number} is not that of event {odd[0].number} in the "
            "history; the tag or the version was changed by hand"
        )
    return f"{len(history.events)} events explain all aliases"


def _files(copy: _Copy) -> str:
    package, _ = fetch_package(copy.uri, copy.folder, "the version")
    copy.folder, copy.record = package, read_record(package)
    return f"{len(copy.record['sha256'])} files have the checksums of the registered package"


def _signature(copy: _Copy) -> str:
    return check_package(copy.folder, copy.trust, copy.uri).sentence


def _evaluation(copy: _Copy) -> str:
    scored = read_json(copy.folder / EVALUATION)["protocol"]["model"]["sha256"]
    if scored != copy.record["source_sha256"]:
        raise TrackingError(
            f"{copy.uri}: {EVALUATION} belongs to the weights {scored[:12]}, not to those of this package; "
            "export and register the model again"
        )
    return "evaluation and card were exported with these weights"


def _tags(copy: _Copy) -> str:
    candidate, tags = Candidate.of(copy.folder), copy.version.tags
    expected = tags_of(candidate.record, candidate.evaluation, candidate.figures, tags.get(RUN_ID))
    odd = sorted(key for key, value in expected.items() if tags.get(key) != value)
    if odd:
        raise TrackingError(
            f"{copy.uri}: the tag {odd[0]} is {tags.get(odd[0], 'missing')}, but the package says "
            f"{expected[odd[0]]}; register the package again, which sets all tags"
        )
    return f"{len(expected)} tags agree with the package"


def _run(copy: _Copy) -> str:
    linked, trained = copy.version.run_id, copy.record["facts"]["mlflow_run_id"]
    run_id = copy.version.tags.get(RUN_ID) or linked
    if run_id is None:
        return "the version is not linked to a run"
    if run_id != trained or linked not in (None, run_id):  # None: linked by a later registration
        raise TrackingError(
            f"{copy.uri}: the run is {linked or run_id} in MLflow, but {trained} trained the weights; the version was "
            "changed by hand"
        )
    client = copy.registry.ledger.client
    if not server.is_known(client, run_id):
        raise TrackingError(f"{copy.uri}: run {run_id} is deleted; run `mlflow runs restore --run-id {run_id}`")
    tags, facts = client.get_run(run_id).data.tags, copy.record["facts"]
    odd = [key for key in ("git_commit", "data_md5") if tags.get(key, facts[key]) != facts[key]]
    if odd:
        raise TrackingError(
            f"{copy.uri}: the {odd[0]} of run {run_id} is {tags[odd[0]]}, but that of the weights is {facts[odd[0]]}; "
            "the run was changed after the training"
        )
    return f"run {run_id} trained these weights"


def _network(copy: _Copy) -> str:
    copy.network = load_model(copy.folder / MODEL_FILE)
    return f"{copy.network[1].network.backbone} is loaded"


def _crops(copy: _Copy) -> str:
    assert copy.network is not None
    tolerance = float(copy.record["parity"]["tolerance"])
    found = require_same_logits(copy.folder / CROPS, *copy.network, tolerance, copy.uri)
    return (
        f"logits differ by {found.largest_difference:.1e} (limit {tolerance:.1e}), "
        f"{found.changed_px} of {found.total_px} pixels get another class"
    )


CHECKS: Mapping[str, Callable[[_Copy], str]] = {
    "files": _files,
    "signature": _signature,
    "evaluation": _evaluation,
    "tags": _tags,
    "run": _run,
    "network": _network,
    "crops": _crops,
}
"""Name of a link -> its check, which returns a sentence or raises `MobanetError`."""
