"""The identity of a run: everything that affects its results. A run resumes only from checkpoints of its identity."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from components.common.data.store import Store
from components.common.inference.modelfile import InitialWeights
from components.common.params import dotted
from components.train.config import TrainConfig
from model import MoBaNet

MISSING = "not recorded"

ADDED: dict[str, Any] = {
    "train.masking.paired": 0.0,
    "train.masking.paired_weight": 1.0,
    "train.masking.distillation": 0.0,
    "train.masking.schedule": [0.0, 0.0],
    "model.missing": "zero",
    "model.batch_norm": "shared",
}
"""Facts that earlier releases did not record -> what they did."""


class Difference(NamedTuple):
    """A fact in which two identities differ."""

    name: str  # dotted, for example train.learning_rate
    here: Any
    there: Any


def identity(config: TrainConfig, network: MoBaNet, start: InitialWeights, data: Store) -> dict[str, Any]:
    """Parameters, network, sha256 of the initial weights and data version, as JSON-compatible values."""
    weights = start.sha256 or start.source
    facts = {"train": asdict(config), "model": asdict(network.config), "weights": weights, "data": data.data_md5}
    content: dict[str, Any] = json.loads(json.dumps(facts))
    return content


def difference(here: Mapping[str, Any], there: Mapping[str, Any]) -> Difference | None:
    """The first fact in which two identities differ; None if they are equal."""
    ours, theirs = dict(dotted(here)), dict(dotted(there))
    for name in [*ours, *(theirs.keys() - ours.keys())]:
        mine, other = (facts.get(name, ADDED.get(name, MISSING)) for facts in (ours, theirs))
        if mine != other:
            return Difference(name, mine, other)
    return None
