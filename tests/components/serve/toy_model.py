"""A logged model of a toy network, as MLflow downloads it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

from components.common.files import digest, write_json
from components.common.inference.modelfile import ModelFacts, save_model
from components.common.tracking.packages import FORMAT
from components.register.logged_model import describe
from model import MoBaNet
from tests.components.predict.known import FACTS


def write_logged_model(folder: Path, facts: ModelFacts = FACTS) -> Path:
    """Random weights whose classes depend on image and heights, next to MLflow's description."""
    record = {"format": FORMAT, "facts": json.loads(json.dumps(asdict(facts)))}
    describe(folder, record)
    torch.manual_seed(0)
    save_model(folder / "model.safetensors", MoBaNet(facts.network), facts)
    write_json(folder / "export.json", record | {"sha256": {"model.safetensors": digest(folder / "model.safetensors")}})
    return folder
