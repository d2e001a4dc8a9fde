"""The history of a registered model in MLflow: an append-only log that every client sees in the same order.

MLflow stores no history of an alias. So the history of the model NAME is the registered model `NAME.history`, with one
version per event, because MLflow gives out version numbers atomically. The tag `event` holds the event, and the
description is one sentence for readers of MLflow's pages.
"""

from __future__ import annotations

import getpass
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.common.entrypoints.kubeflow import CONTEXT, TAG
from components.common.errors import MobanetError
from components.register.history.events import Event, History
from components.register.history.patience import created

if TYPE_CHECKING:
    from mlflow import MlflowClient

SUFFIX = ".history"
"""Ending of the name of a history."""

EVENT, APPLIED = "event", "applied"
SOURCE = "mobanet-history:/none"
"""Source of a version that has no files."""

LONGEST_SENTENCE = 1000
"""Longest description of an event, characters."""

VERBS = {
    "register": "registered",
    "promote": "promoted",
    "rollback": "rolled back to",
    "reject": "rejected",
    "adopt": "adopted a change made by hand of",
    "undo": "undid a change made by hand of",
    "rescore": "scored again",
    "import": "imported the promotion of",
}


class RegistryError(MobanetError):
    """A change of the registry is refused."""


class ConflictError(RegistryError):
    """The registry changed between a decision and its change."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The log of one registered model. Every method may raise `MlflowException`."""

    client: MlflowClient
    model: str  # name of the registered model

    @property
    def name(self) -> str:
        """Name of the registered model that holds the events."""
        return f"{self.model}{SUFFIX}"

    def create(self) -> None:
        """Create the log if it does not exist."""
        if self.client.search_registered_models(f"name = '{self.name}'"):
            return
        from mlflow.exceptions import MlflowException

        purpose = f"History of the aliases of {self.model}, one version per event. Do not edit or delete versions."
        try:
            self.client.create_registered_model(self.name, description=purpose)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # created by another process in the meantime
                raise

    def read(self) -> History:
        """All events, with those that take effect decided."""
        events: list[Event] = []
        token = None
        while True:
            page = self.client.search_model_versions(
                f"name = '{self.name}'", order_by=["version_number ASC"], page_token=token
            )
            for entry in page:
                tags = entry.tags or {}
                events.append(Event.from_json(tags.get(EVENT), int(entry.version), tags.get(APPLIED) == "true"))
            token = page.token
            if not token:
                return History.of(sorted(events, key=lambda event: event.number))

    def head(self) -> int:
        """Number of the last event; 0: there is none."""
        last = self.client.search_model_versions(f"name = '{self.name}'", 1, order_by=["version_number DESC"])
        return int(last[0].version) if last else 0

    def append(self, event: Event) -> None:
        """Write an event at the end of the log. Afterwards the log says whether it takes effect."""
        tags = {EVENT: event.to_json(), APPLIED: str(event.applied).lower()}
        sentence = sentence_of(event, self.model)[:LONGEST_SENTENCE]

        def create() -> int:
            made = self.client.create_model_version(
                self.name, SOURCE, tags=tags, description=sentence, await_creation_for=0
            )
            return int(made.version)

        created(create, lambda: self._number(event), f"record a change in {self.name}")

    def _number(self, event: Event) -> int | None:
        found = self.read().event(event.id)
        return None if found is None else found.number

    def mark_applied(self, event: Event) -> None:
        """Record that the aliases in MLflow were set after an event."""
        self.client.set_model_version_tag(self.name, str(event.number), APPLIED, "true")


def sentence_of(event: Event, model: str) -> str:
    """One readable sentence about an event."""
    subject = f"version {event.version} of {model}" if event.version else model
    before = {**event.expects, **(event.found if event.kind == "undo" else {})}
    moves = [
        f"{alias}: {before[alias] or 'none'} -> {version or 'none'}"
        for alias, version in event.sets.items()
        if alias in before
    ]
    moves += [f"{alias}: {version or 'none'}" for alias, version in event.sets.items() if alias not in before]
    forced = " by force" if event.forced else ""
    because = f", because: {event.why}" if event.why else ""
    changes = f" ({'; '.join(moves)})" if moves else ""
    did = f"{event.who or 'unknown'} {VERBS.get(event.kind, event.kind)} {subject}{forced}"
    return f"{event.time}: {did}{changes}{because}"


def who() -> str:
    """Who makes a change: the user of MLflow or of this machine, and the Kubeflow run."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if not user:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container with a user id without name
            user = f"user {os.getuid()}"
    run = json.loads(os.environ.get(CONTEXT, "{}")).get(TAG)
    return f"{user}, Kubeflow run {run}" if run else user
