"""What a run is: everything that shapes its numbers, so that a checkpoint is never gone on with as something else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from components.common.data.store import Store
from components.common.params import dotted
from components.train.config import TrainConfig
from model import MoBaNet

MISSING = "missing"


class Difference(NamedTuple):
    """A fact in which two runs differ."""

    name: str  # dotted: train.learning_rate
    here: Any
    there: Any


def identity(config: TrainConfig, network: MoBaNet, weights_id: str, data: Store) -> dict[str, Any]:
    """Parameters, network, backbone weights and data version, as JSON content."""
    facts = {"train": asdict(config), "model": asdict(network.config), "weights": weights_id, "data": data.data_md5}
    content: dict[str, Any] = json.loads(json.dumps(facts))
    return content


def difference(here: Mapping[str, Any], there: Mapping[str, Any]) -> Difference | None:
    """The first fact in which two identities differ; None: they are the same."""
    ours, theirs = dict(dotted(here)), dict(dotted(there))
    for name in [*ours, *(theirs.keys() - ours.keys())]:
        if ours.get(name, MISSING) != theirs.get(name, MISSING):
            return Difference(name, ours.get(name, MISSING), theirs.get(name, MISSING))
    return None
