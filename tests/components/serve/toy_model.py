"""A logged model of a toy network, as MLflow downloads it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

from components.common.files import digest, write_json
from components.common.inference.modelfile import ModelFacts, save_model
from components.common.tracking.packages import FORMAT
from components.register.uploads.logged_model import describe
from model import MoBaNet
from tests.components.predict.known import FACTS


def write_package(folder: Path, facts: ModelFacts = FACTS) -> dict:
    """A package of random weights whose classes depend on image and heights; its record."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    save_model(folder / "model.safetensors", MoBaNet(facts.network), facts)
    sha256 = {"model.safetensors": digest(folder / "model.safetensors")}
    record = {"format": FORMAT, "sha256": sha256, "facts": as_json(facts)}
    write_json(folder / "export.json", record)
    return record


def write_logged_model(folder: Path, facts: ModelFacts = FACTS) -> Path:
    """A package next to MLflow's description."""
    describe(folder, {"facts": as_json(facts)})
    write_package(folder, facts)
    return folder


def as_json(facts: ModelFacts) -> dict:
    """Facts as `export.json` has them."""
    return json.loads(json.dumps(asdict(facts)))
