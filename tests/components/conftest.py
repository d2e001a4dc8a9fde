"""What the tests of several steps share: a toy model with its evaluation, its package, and an MLflow store."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from components.common.data import datasets
from components.common.data.store import Heights
from components.common.files import digest, replacing_folder, write_json
from components.common.inference.modelfile import ModelFacts, save_model
from components.common.scoring.conditions import GROUND_TRUTHS
from components.common.scoring.metrics import as_json
from components.evaluate import record
from components.export.config import ExportConfig
from components.export.step import run as export
from model import MoBaNet, MoBaNetConfig

DATA_MD5 = "d" * 32
RAW_MD5 = "e" * 32


@dataclass(frozen=True)
class Trained:
    """Files as train and evaluate leave them, and the network itself."""

    network: MoBaNet
    facts: ModelFacts
    weights: Path
    evaluation: Path
    store: Path


def toy_facts(config: MoBaNetConfig) -> ModelFacts:
    """Facts of a toy network, 32 px a side."""
    dataset = datasets.dataset("sample")
    return ModelFacts(
        network=config,
        classes=tuple(c.name for c in dataset.classes),
        in_means=tuple(c.in_means for c in dataset.classes),
        palette=tuple(c.rgb for c in dataset.classes),
        bands=dataset.image.bands,
        image_range=dataset.image.range,
        gsd_m=dataset.gsd_m,
        heights=Heights("above-ground", 0.0, 10.0, 12.0, None, (-0.5, 2.0), "datum"),
        image_mean=(0.4, 0.5, 0.6),
        image_std=(0.2, 0.25, 0.3),
        window_px=32,
        dataset="sample",
        source="sample",
        split="sample",
        acknowledgement=dataset.acknowledgement,
        data_md5=DATA_MD5,
        git_commit="c" * 40,
        tool_version="0.1.0",
        step=300,
        seed=1,
        validation={"expected_miou": 70.0},
    )


def toy_evaluation(facts: ModelFacts, weights: Path) -> record.Evaluation:
    """The evaluation of a model that is right in 90, 80 and 60 of 100 pixels with both sensors, image and DSM alone."""
    k = len(facts.classes)
    right = {"rgb+dsm": 90, "rgb": 80, "dsm": 60}
    counts = {name: np.full((k, k), (100 - r) // (k - 1)) + np.eye(k, dtype=int) * r for name, r in right.items()}
    protocol = record.Protocol(
        dataset=facts.dataset,
        source=facts.source,
        split=facts.split,
        subset="test",
        tiles=("5_10", "5_11"),
        classes=facts.classes,
        mean_classes=facts.classes[:5],
        ground_truth="eroded",
        missing_modality=record.MISSING_MODALITY[facts.network.missing],
        window_px=facts.window_px,
        stride_px=16,
        overlap=record.OVERLAP,
        precision=facts.precision,
        gsd_m=facts.gsd_m,
        bands=facts.bands,
        heights=facts.heights,
        data_md5=facts.data_md5,
        raw_md5=RAW_MD5,
        git_commit=facts.git_commit,
        tool_version=facts.tool_version,
        device="cpu",
        model=record.trained_model(facts, digest(weights)),
        tiles_by_condition=dict.fromkeys(counts, ("5_10", "5_11")),
    )
    totals = {name: dict.fromkeys(GROUND_TRUTHS, matrix) for name, matrix in counts.items()}
    return record.evaluation(totals, facts, protocol, 0.1, ())


@pytest.fixture(scope="session")
def trained(tmp_path_factory, toy_store: Path) -> Trained:
    """A toy model and its evaluation; every random weight is large enough to matter."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    args = {"patch_size": 8, "img_size": 64}  # the positions are resampled from 8 x 8 to 4 x 4
    network = MoBaNet(MoBaNetConfig(backbone="test_vit", backbone_args=args, decoder_channels=16)).eval()
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "pos_embed" in name or "gate" in name:
                value.normal_(std=0.5)
    facts = toy_facts(network.config)
    weights, evaluation = folder / "best.safetensors", folder / "evaluation.json"
    save_model(weights, network, facts)
    write_json(evaluation, as_json(toy_evaluation(facts, weights)))
    return Trained(network, facts, weights, evaluation, toy_store)


def export_config(**changes) -> ExportConfig:
    """Section `export` with one format, which is the fastest to write."""
    values = {
        "formats": ("onnx",),
        "required": ("onnx",),
        "outputs": ("logits",),
        "opset": 20,
        "tolerance": 1e-4,
        "max_changed": 0.01,
        "max_changed_reduced": 0.2,
        "signing_key": None,
    }
    return ExportConfig(**values | changes)


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that one of the processes of a test run makes, and all of them read."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once" / name
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            with replacing_folder(folder) as draft:
                make(draft)
    return folder


@pytest.fixture(scope="session")
def package(trained: Trained, tmp_path_factory) -> Path:
    """The package of the toy model."""

    def make(folder: Path) -> None:
        export(export_config(), trained.weights, trained.evaluation, trained.store, folder / "package")

    return made_once(tmp_path_factory, "export", make) / "package"


@pytest.fixture(scope="session")
def empty_mlflow_store(tmp_path_factory) -> Path:
    """A database that MLflow has prepared; making it takes seconds, copying it does not."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = tmp_path_factory.mktemp("mlflow")
    SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts"))
    return folder / "mlflow.db"


@pytest.fixture
def mlflow_folder(empty_mlflow_store: Path, tmp_path: Path, monkeypatch) -> Path:
    """Current folder with an empty MLflow store, found as a user's would be: by no setting at all."""
    (tmp_path / "mlflow.db").write_bytes(empty_mlflow_store.read_bytes())
    monkeypatch.chdir(tmp_path)
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path
