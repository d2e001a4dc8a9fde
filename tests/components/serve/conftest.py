"""A service of a toy model, its client, and rasters."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest
import torch
from fastapi.testclient import TestClient

from components.common.files import digest, write_json
from components.common.inference.modelfile import save_model
from components.common.inference.stored_crops import write_crops
from components.common.tracking.packages import FORMAT
from components.predict.config import PredictConfig
from components.serve.app import create_app
from components.serve.config import ServeConfig
from components.serve.following import ModelSource
from components.serve.served import Served
from model import MoBaNet, MoBaNetConfig
from tests.components.conftest import toy_facts
from tests.conftest import toy_tile

DEFAULTS = ServeConfig(
    max_body_mb=4,
    max_pixels=0.25,
    timeout_s=20.0,
    concurrency=2,
    queue=14,
    poll_s=0.05,
    url_prefixes=(),
    allow_private_hosts=False,
)
PREDICT = PredictConfig(
    tiles=None, window_px=None, overlap=0.25, batch_size=4, block_px=256, min_agreement=None, precision="auto"
)


def opener(package, registered):
    return Served(package, registered, PREDICT, torch.device("cpu"))


def toy_package(folder, seed=0):
    """A package without a graph: the network, its crops and the record, as the service reads them."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    network = MoBaNet(MoBaNetConfig(backbone="test_vit", backbone_args={"patch_size": 8, "img_size": 64})).eval()
    facts = toy_facts(network.config)
    save_model(folder / "model.safetensors", network, facts)
    write_crops(folder / "crops.safetensors", network, facts, [toy_tile("A", 48)])
    (folder / "README.md").write_text("# Toy\n")
    files = {path.name: digest(path) for path in sorted(folder.iterdir())}
    record = {"format": FORMAT, "sha256": files, "parity": {"tolerance": 1e-4}, "facts": asdict(facts)}
    write_json(folder / "export.json", record)
    return folder


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    return toy_package(tmp_path_factory.mktemp("service") / "package")


@contextmanager
def service(package, **changes):
    """A client of the service of a package; a failure of the service itself is an answer, not an exception."""
    app = create_app(ModelSource(str(package), opener, 1.0), replace(DEFAULTS, **changes), PREDICT)
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client


@pytest.fixture(scope="module")
def client(package):
    with service(package) as opened:
        yield opened
