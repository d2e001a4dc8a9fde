"""The answers of a toy network to all cases, without a store: crops of noise."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from components.common.inference.modelfile import ModelFacts
from components.common.inference.stored_crops import write_crops
from components.export.parity.parity_cases import Reference, make_reference
from model import MoBaNet


def reference_of(network: MoBaNet, facts: ModelFacts, folder: Path) -> Reference:
    """Write crops of noise into `folder` and compute the network's answers."""
    rng = np.random.default_rng(0)
    height, width = 3 * facts.window_px, facts.window_px - 4  # narrower than a window, so that crops are filled up
    tile = SimpleNamespace(
        image_HWC=rng.integers(0, 256, (height, width, len(facts.bands))).astype(np.uint8),
        dsm_HW=rng.uniform(*facts.heights.clip, (height, width)).astype(np.float32),
    )
    crops = folder / "crops.safetensors"
    write_crops(crops, network, facts, [tile])
    return make_reference(network, facts, crops)
