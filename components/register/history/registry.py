"""One registered model in MLflow: its versions, their tags, its aliases and its history.

A version is identified by the checksums of all files of its package (tag `package_sha256`), so a package is never
registered twice. Only `components/register/history/aliases.py` changes aliases, because every change has an entry in
the history.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from components.common.tracking.answers import absent
from components.common.tracking.registered_models import PACKAGE_SHA256, SHA256, logged_model_of
from components.register.history.events import ALIASES, CHALLENGER, CHAMPION, PREVIOUS, Event, History, State
from components.register.history.ledger import SUFFIX, Ledger, RegistryError
from components.register.history.patience import created, patient
from components.register.promotion import PromotionRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PROMOTION_RECORD, RUN_ID = "promotion_record", "mlflow_run_id"
FIGURES = ("balance.", "scores.")

OLD_PROMOTION = "promotion."
"""Beginning of the tags in which releases up to format 1 recorded promotions."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version as MLflow lists it."""

    number: str
    tags: Mapping[str, str]
    description: str
    run_id: str | None
    model_id: str | None  # logged model
    source: str
    created: datetime  # UTC


class Registry:
    """One registered model. Every method may raise `MlflowException`."""

    def __init__(self, client: MlflowClient, name: str) -> None:
        """Use the registered model of this name; `open` creates it. No request is made.

        Raises:
            RegistryError: the name is that of a history.
        """
        if name.endswith(SUFFIX):
            raise RegistryError(f"{name} is the history of a registered model; choose a name without {SUFFIX}")
        self._client, self.name = patient(client), name
        self.ledger = Ledger(self._client, name)

    @classmethod
    def open(cls, client: MlflowClient, name: str) -> Registry:
        """Use the registered model of this name; it and its history are created if they do not exist."""
        from mlflow.exceptions import MlflowException

        registry = cls(client, name)
        if not registry.exists():
            try:
                client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # created by another process in the meantime
                    raise
        registry.ledger.create()
        registry._import_promotions()
        return registry

    def exists(self) -> bool:
        """Whether MLflow has a registered model of this name."""
        return bool(self._client.search_registered_models(f"name = '{self.name}'"))

    def history(self) -> History:
        """All changes of the aliases, oldest first."""
        return self.ledger.read()

    def aliases(self) -> dict[str, str]:
        """Alias -> version, as MLflow has them now; only aliases of this project."""
        found = self._client.get_registered_model(self.name).aliases
        return {alias: str(version) for alias, version in found.items() if alias in ALIASES}

    def champion(self) -> str | None:
        """Version with the alias `champion`; None if there is none."""
        return self.aliases().get(CHAMPION)

    def point(self, alias: str, version: str | None) -> bool:
        """Set or remove an alias in MLflow. False: the version does not exist."""
        from mlflow.exceptions import MlflowException

        if version is None:
            self._client.delete_registered_model_alias(self.name, alias)
            return True
        try:
            self._client.set_registered_model_alias(self.name, alias, version)
        except MlflowException as error:
            if not absent(error):
                raise
            return False
        return True

    def versions(self) -> list[Version]:
        """All versions that are not deleted, oldest first."""
        return self._search(f"name = '{self.name}'")

    def find(self, package_sha256: str) -> str | None:
        """Version of the package with this identity; None if it is not registered."""
        found = self._search(f"name = '{self.name}' and tags.`{PACKAGE_SHA256}` = '{package_sha256}'")
        return found[0].number if found else None

    def rejected(self, state: State | None = None) -> frozenset[str]:
        """Versions that may not become champion without force: rejected ones, and those with the same weights."""
        state = state or self.history().state
        if not state.rejected:
            return frozenset()
        weights = {version.number: version.tags.get(SHA256) for version in self.versions()}
        bad = {weights.get(number) for number in state.rejected} - {None}
        same = {number for number, sha in weights.items() if sha in bad}
        return state.rejected | (same - state.pardoned)

    def tags(self, version: str) -> dict[str, str]:
        """Tags of a version.

        Raises:
            RegistryError: the version does not exist.
        """
        from mlflow.exceptions import MlflowException

        try:
            return dict(self._client.get_model_version(self.name, version).tags or {})
        except MlflowException as error:
            if not absent(error):
                raise
            raise RegistryError(f"{self.name} has no version {version}; see `mobanet registry list`") from None

    def promotion_record(self, version: str) -> PromotionRecord | None:
        """Figures of a version's evaluation; None if this release cannot read them."""
        text = self.tags(version).get(PROMOTION_RECORD)
        return None if text is None else PromotionRecord.from_json(text)

    def add(self, model_id: str, run_id: str | None, tags: Mapping[str, str]) -> str:
        """Create a version from a logged model.

        Returns:
            The number of the version. If another process has just registered the same package, that is its version, and
            the one made here is deleted.
        """
        identity = tags.get(PACKAGE_SHA256)

        def create() -> str:
            made = self._client.create_model_version(
                self.name, f"models:/{model_id}", run_id=run_id, tags=dict(tags), model_id=model_id
            )
            return str(made.version)

        def find() -> str | None:
            return None if identity is None else self.find(identity)

        version = created(create, find, f"create a version of {self.name}")
        first = find()
        if first is None or first == version:
            return version
        self._client.delete_model_version(self.name, version)
        return first

    def describe(self, version: str, tags: Mapping[str, str], sentence: str) -> None:
        """Set the tags and the description of a version to those of its evaluation."""
        known = self.tags(version)
        for key, value in tags.items():
            if known.get(key) != value:
                self._client.set_model_version_tag(self.name, version, key, value)
        for key in known.keys() - tags.keys():
            if key.startswith(FIGURES):  # a figure that only an earlier evaluation had
                self._client.delete_model_version_tag(self.name, version, key)
        self._client.update_model_version(self.name, version, sentence)

    def _search(self, conditions: str) -> list[Version]:
        found: list[Version] = []
        token = None
        while True:
            page = self._client.search_model_versions(conditions, order_by=["version_number ASC"], page_token=token)
            found += [_version(entry) for entry in page]
            token = page.token
            if not token:
                return sorted(found, key=lambda version: int(version.number))

    def _import_promotions(self) -> None:
        """Copy the promotions that an earlier release recorded, and the aliases of that time, into an empty history."""
        known = self.history().events
        if any(event.kind != "import" for event in known):
            return
        model = self._client.get_registered_model(self.name)
        tags = model.tags
        events = [_imported(key, json.loads(tags[key])) for key in sorted(tags) if key.startswith(OLD_PROMOTION)]
        existing = {version.number for version in self.versions()} if events else set()
        champions = [event.version for event in events if event.version in existing]
        sets: dict[str, str | None] = {
            alias: str(version) for alias, version in model.aliases.items() if alias == CHALLENGER or not events
        }
        if len(champions) > 1 and champions[-2] != champions[-1]:
            sets[PREVIOUS] = champions[-2]
        sets = {alias: version for alias, version in sets.items() if alias in ALIASES}
        if sets:  # not marked as applied: the next command sets the alias `previous-champion`
            now = datetime.now(UTC).isoformat(timespec="seconds")
            events.append(Event("import-aliases", now, "import", None, sets=sets, why="aliases before the history"))
        ids = {event.id for event in known}
        for event in events:
            if event.id not in ids:
                self.ledger.append(event)


def _imported(key: str, entry: Mapping[str, object]) -> Event:
    version = str(entry["to"])
    gates = entry.get("gates")
    return Event(
        f"import-{key}",
        str(entry["time"]),
        "import",
        version,
        sets={CHAMPION: version},
        gates=tuple(gates) if isinstance(gates, list) else (),
        why="recorded by an earlier release",
        applied=True,
    )


def _version(entry: ModelVersion) -> Version:
    return Version(
        number=str(entry.version),
        tags=dict(entry.tags or {}),
        description=entry.description or "",
        run_id=entry.run_id or None,
        model_id=logged_model_of(entry),
        source=entry.source or "",
        created=datetime.fromtimestamp((entry.creation_timestamp or 0) / 1000, UTC),
    )
