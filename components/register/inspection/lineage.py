"""What a registered version is and where it comes from: figures, code, data, parameters, run, Kubeflow, history.

In: a registered model. Out: one row per version, and all facts about one version, as records for tables and JSON.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.common.entrypoints.kubeflow import IMAGE_TAG, TAG
from components.common.errors import MobanetError, reason
from components.common.tracking import server
from components.common.tracking.packages import RECORD, read_record
from components.common.tracking.registered_models import PACKAGE_SHA256, fetch
from components.register.history.events import ALIASES, CHAMPION, Event
from components.register.history.registry import FIGURES, PROMOTION_RECORD, RUN_ID, Registry, Version
from components.register.inspection.collection import UNUSABLE
from components.register.promotion import CLEAN_COMMIT, PromotionRecord

if TYPE_CHECKING:
    from mlflow.entities import Run

REJECTED, INCOMPLETE, OLDER = "rejected", "incomplete", "older release"
"""States of a version: rejected by a user, without figures or files, without the identity that this release gives."""


@dataclass(frozen=True, slots=True)
class Row:
    """One version in the list."""

    version: str
    state: str  # an alias, rejected, incomplete, older release, or empty
    aliases: tuple[str, ...]
    expected_miou: float | None  # E(p), percent points
    miou: float | None  # with all sensors, percent points
    worst_class: str | None
    worst_iou: float | None  # percent points
    dataset: str | None
    split: str | None
    raw_md5: str | None
    git_commit: str | None
    created: str  # UTC, ISO 8601
    package_sha256: str | None


@dataclass(frozen=True, slots=True)
class Lineage:
    """Everything that is known about one version."""

    name: str
    row: Row
    uri: str
    description: str
    checkout: str | None  # command that restores code and data; None: the code was not committed
    data: dict[str, str]  # data set, source, split, data versions
    files: dict[str, str]  # file -> sha256
    test: dict[str, float]  # figures on the test tiles
    validation: dict[str, float | None]  # figures on the validation tiles, at the selected step
    parameters: dict[str, str]  # of the training run
    run_id: str | None
    run_page: str | None
    kubeflow_run: str | None
    image: str | None  # image of the training, with its digest if the graph names one
    missing: tuple[str, ...]  # sentences: facts that could not be read
    events: tuple[Event, ...]


def rows(registry: Registry) -> tuple[Row, ...]:
    """All versions, newest first."""
    aliases, rejected = registry.aliases(), registry.rejected()
    return tuple(_row(version, aliases, rejected) for version in reversed(registry.versions()))


def lineage_of(registry: Registry, version: Version) -> Lineage:
    """All facts about one version. What cannot be read is listed in `missing`."""
    history, tags = registry.history(), version.tags
    row = _row(version, registry.aliases(), registry.rejected())
    uri = f"models:/{registry.name}/{version.number}"
    missing: list[str] = []
    record = _record(uri, missing) if PACKAGE_SHA256 in tags else {}
    if not record and not missing:
        missing.append(f"an earlier release registered this version; run `mobanet registry rescore {uri}`")
    run_id = version.run_id or tags.get(RUN_ID)
    run = None if run_id is None else _run(registry, run_id, missing)
    run_tags: Mapping[str, str] = {} if run is None else run.data.tags
    return Lineage(
        name=registry.name,
        row=row,
        uri=uri,
        description=version.description,
        checkout=checkout_command(row.git_commit),
        data={key: tags[key] for key in DATA if key in tags},
        files=dict(record.get("sha256", {})),
        test={key: float(value) for key, value in tags.items() if key.startswith(FIGURES) and _is_number(value)},
        validation=dict(record.get("facts", {}).get("validation", {})),
        parameters={} if run is None else dict(sorted(run.data.params.items())),
        run_id=run_id,
        run_page=None if run is None else server.run_page(run.info.run_id),
        kubeflow_run=run_tags.get(TAG),
        image=run_tags.get(IMAGE_TAG),
        missing=tuple(missing),
        events=tuple(event for event in history.events if event.version == version.number),
    )


DATA = ("dataset", "source", "split", "raw_md5", "data_md5", "trained_on_data_md5")
"""Tags of a version that name its data."""


def checkout_command(commit: str | None) -> str | None:
    """Shell command that restores code, parameters and data of a commit; None: the code was not committed."""
    if commit is None or len(commit) < CLEAN_COMMIT or commit.endswith("-dirty"):
        return None
    return f"git checkout {commit} && dvc pull data/raw data/store"


def _row(version: Version, aliases: Mapping[str, str], rejected: frozenset[str]) -> Row:
    tags = version.tags
    record = PromotionRecord.from_json(tags.get(PROMOTION_RECORD, ""))
    own = tuple(alias for alias in ALIASES if aliases.get(alias) == version.number)
    worst = None if record is None else record.worst_class
    return Row(
        version=version.number,
        state=_state(version, own, rejected),
        aliases=own,
        expected_miou=_number(tags, "balance.expected_miou"),
        miou=_number(tags, "scores.miou"),
        worst_class=worst and worst[0],
        worst_iou=worst and worst[1],
        dataset=tags.get("dataset"),
        split=tags.get("split"),
        raw_md5=tags.get("raw_md5"),
        git_commit=tags.get("git_commit"),
        created=version.created.isoformat(timespec="seconds"),
        package_sha256=tags.get(PACKAGE_SHA256),
    )


def _state(version: Version, aliases: tuple[str, ...], rejected: frozenset[str]) -> str:
    if UNUSABLE in version.tags:
        return INCOMPLETE
    if version.number in rejected and CHAMPION not in aliases:
        return REJECTED
    if aliases:
        return aliases[0]
    if PACKAGE_SHA256 in version.tags:
        return ""
    return OLDER if PROMOTION_RECORD in version.tags else INCOMPLETE


def _record(uri: str, missing: list[str]) -> dict[str, Any]:
    """`export.json` of a version; empty if it cannot be read."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            fetch(uri, RECORD, Path(folder), "the version")
            return read_record(Path(folder))
    except MobanetError as error:
        missing.append(f"files and validation figures: {reason(error)}")
        return {}


def _run(registry: Registry, run_id: str, missing: list[str]) -> Run | None:
    """The training's run; None if the store does not have it."""
    client = registry.ledger.client
    if server.is_known(client, run_id):
        return client.get_run(run_id)
    missing.append(f"parameters: run {run_id} is not in {server.address()}")
    return None


def _number(tags: Mapping[str, str], key: str) -> float | None:
    value = tags.get(key, "")
    return float(value) if _is_number(value) else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
