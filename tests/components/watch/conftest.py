"""A toy package with a reference, and scenes of the same kind of land: blocks of colour, some of them roofs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from components.common.data.height_scaling import scaled
from components.common.data.store import Tile
from components.common.drift.reference_windows import FILE, reference
from components.common.files import digest, write_json
from components.common.inference.modelfile import save_model
from components.common.tracking.packages import FORMAT
from components.watch.config import WatchConfig
from model import MoBaNet, MoBaNetConfig
from tests.components.conftest import toy_facts
from tests.components.predict.rasters import write

SIDE_PX = 128
COLOURS = np.array([(90, 90, 95), (150, 80, 70), (70, 120, 60), (40, 80, 45)], np.uint8)  # road, roof, grass, tree
HEIGHTS_M = np.array([0.0, 6.0, 0.1, 9.0], np.float32)
CONFIG = WatchConfig(windows=24, max_psi=0.25, max_ks=0.1, level=0.01, seed=1)


def land(seed, side_px=SIDE_PX):
    """An image `[H, W, 3]`, and heights `[H, W]`, metres above the datum."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(4, (side_px // 4, side_px // 4), p=(0.4, 0.2, 0.3, 0.1)).repeat(4, 0).repeat(4, 1)
    noise = rng.normal(0, 8, (side_px, side_px, 3))
    image = (COLOURS[kinds] + noise).clip(1, 255).astype(np.uint8)
    return image, (HEIGHTS_M[kinds] + 30 + rng.normal(0, 0.03, kinds.shape)).astype(np.float32)


@pytest.fixture(scope="session")
def watched(tmp_path_factory) -> Path:
    """The package."""
    folder = tmp_path_factory.mktemp("watched") / "package"
    folder.mkdir()
    torch.manual_seed(0)
    args = {"patch_size": 8, "img_size": 64}
    config = MoBaNetConfig(backbone="test_vit", backbone_args=args, decoder_channels=16, aux_heads=False)
    network, facts = MoBaNet(config).eval(), toy_facts(config)
    facts = replace(facts, heights=replace(facts.heights, ground_radius_m=2.0))
    tiles = []
    for seed in range(4):
        image_HWC, metres_HW = land(seed)
        label_HW = np.zeros(metres_HW.shape, np.uint8)
        tiles.append(Tile(image_HWC, scaled(metres_HW, facts.heights, facts.gsd_m), label_HW, label_HW))
    save_model(folder / "model.safetensors", network, facts)
    (folder / FILE).write_text(json.dumps(reference(network, facts, tiles)))
    sums = {file.name: digest(file) for file in sorted(folder.iterdir())}
    write_json(folder / "export.json", {"format": FORMAT, "sha256": sums})
    return folder


@pytest.fixture
def scenes(tmp_path):
    """Function that writes two scenes and returns the folders of images and heights."""

    def make(change=lambda image, metres: (image, metres), seeds=(10, 11)):
        for name in ("images", "heights"):
            (tmp_path / name).mkdir()
        for seed in seeds:
            image, metres = change(*land(seed))
            write(tmp_path / f"images/{seed}.tif", image)
            write(tmp_path / f"heights/{seed}.tif", metres)
        return str(tmp_path / "images"), str(tmp_path / "heights")

    return make
