"""MLflow model registry: versions of one model, the aliases `challenger` and `champion`, the promotion history.

A version is identified by the sha256 of its `model.safetensors`, so a model is never registered twice. MLflow stores no
history of an alias. Therefore each promotion is recorded in a tag of the registered model (`promotion.0001` and so on)
that is never changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from components.register.promotion import Gate, PromotionRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHALLENGER, CHAMPION = "challenger", "champion"
SHA256, PROMOTION_RECORD = "sha256", "promotion_record"
PROMOTION, FIGURES = "promotion.", ("balance.", "scores.")


class Registry:
    """One registered model. Every method may raise `MlflowException`."""

    def __init__(self, client: MlflowClient, name: str) -> None:
        """Open the registered model of this name; it is created if it does not exist."""
        self._client, self.name = client, name
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)

    def champion(self) -> str | None:
        """Version with the alias `champion`; None if there is none."""
        version = self._client.get_registered_model(self.name).aliases.get(CHAMPION)
        return None if version is None else str(version)

    def find(self, sha256: str) -> str | None:
        """Version of the model with this sha256; None if it is not registered."""
        found = self._client.search_model_versions(f"name = '{self.name}' and tags.`{SHA256}` = '{sha256}'")
        return max((str(version.version) for version in found), key=int, default=None)

    def promotion_record(self, version: str) -> PromotionRecord | None:
        """Figures of a version's last evaluation; None if this step did not register the version."""
        text = self._client.get_model_version(self.name, version).tags.get(PROMOTION_RECORD)
        return None if text is None else PromotionRecord.from_json(text)

    def add(self, model_id: str, run_id: str | None, tags: Mapping[str, str]) -> str:
        """Create a version from a logged model; returns the version number."""
        made = self._client.create_model_version(
            self.name, f"models:/{model_id}", run_id=run_id, tags=dict(tags), model_id=model_id
        )
        return str(made.version)

    def describe(self, version: str, tags: Mapping[str, str], sentence: str) -> None:
        """Set the tags and the description of a version to those of the last evaluation."""
        known = self._client.get_model_version(self.name, version).tags
        for key, value in tags.items():
            if known.get(key) != value:
                self._client.set_model_version_tag(self.name, version, key, value)
        for key in known.keys() - tags.keys():
            if key.startswith(FIGURES):  # a figure that only an earlier evaluation had
                self._client.delete_model_version_tag(self.name, version, key)
        self._client.update_model_version(self.name, version, sentence)

    def challenge(self, version: str) -> None:
        """Give a version the alias `challenger`."""
        self._client.set_registered_model_alias(self.name, CHALLENGER, version)

    def promote(self, version: str, gates: tuple[Gate, ...]) -> None:
        """Record the promotion, then give the version the alias `champion`."""
        before = self.champion()
        written = self.promotions()
        if not written or (written[-1]["from"], written[-1]["to"]) != (
            before,
            version,
        ):  # equal: recorded, but interrupted before the alias was set
            entry = {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "from": before,
                "to": version,
                "gates": [asdict(gate) for gate in gates],
            }
            key = f"{PROMOTION}{len(written) + 1:04d}"
            self._client.set_registered_model_tag(self.name, key, json.dumps(entry))
        self._client.set_registered_model_alias(self.name, CHAMPION, version)

    def promotions(self) -> list[dict[str, Any]]:
        """All promotions, oldest first."""
        tags = self._client.get_registered_model(self.name).tags
        return [json.loads(tags[key]) for key in sorted(tags) if key.startswith(PROMOTION)]
