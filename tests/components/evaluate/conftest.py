"""A small store with known labels, and rule-based networks that predict them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from components.common.data import datasets
from components.common.data.store import Heights, Manifest, Store, Tile, TileEntry, write_manifest, write_tile
from components.common.inference.modelfile import ModelFacts
from model import MoBaNetConfig

SIDE_PX = 40
HEIGHTS = Heights("above-ground", 0.0, 10.0, 12.0, None, (-0.5, 2.0), "datum")
CLASSES = datasets.dataset("sample").classes


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make_tile(seed: int) -> Tile:
    """Left half low, right half high; upper half dark, lower half bright: four classes that need both sensors."""
    rng = np.random.default_rng(seed)
    label_HW = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    label_HW[:, SIDE_PX // 2 :] += 1  # high
    label_HW[SIDE_PX // 2 :] += 2  # bright
    image_HW3 = np.where(label_HW[..., None] >= 2, 200, 50).astype(np.uint8) + rng.integers(0, 9, 3, dtype=np.uint8)
    dsm_HW = np.where(label_HW % 2 == 1, 1.0, -0.4).astype(np.float32)
    eroded_HW = label_HW.copy()
    eroded_HW[SIDE_PX // 2 - 2 : SIDE_PX // 2 + 2] = 255
    return Tile(np.ascontiguousarray(image_HW3), dsm_HW, label_HW, eroded_HW)


class ByRule(nn.Module):
    """Predicts bright or dark from the image and high or low from the DSM; without a sensor: dark or low."""

    patch_size = 8

    def __init__(self, *, uses_dsm: bool = True, modalities: tuple[str, ...] = ("rgb", "dsm")) -> None:
        super().__init__()
        self.uses_dsm = uses_dsm
        self.config = SimpleNamespace(num_classes=6, modalities=modalities, dgfm=len(modalities) > 1)

    def forward(self, rgb: Tensor | None, dsm: Tensor | None) -> Tensor:
        given = rgb if rgb is not None else dsm
        shape = given[:, 0].shape
        bright = rgb[:, 0] > 0 if rgb is not None else torch.zeros(shape, dtype=torch.bool)
        high = dsm[:, 0] > 0 if dsm is not None and self.uses_dsm else torch.zeros(shape, dtype=torch.bool)
        return nn.functional.one_hot(2 * bright + 1 * high, 6).movedim(-1, 1).float()

    def forward_with_gates(self, rgb: Tensor, dsm: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and gates that favour the DSM where it is high."""
        gate_B1hw = 0.5 - 0.25 * (nn.functional.max_pool2d(dsm, 8) > 0).float()
        return self(rgb, dsm), [gate_B1hw.expand(-1, 3, -1, -1)] * 4


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Path]:
    def make(test: tuple[str, ...] = ("5_10", "5_11"), without_dsm: tuple[str, ...] = (), **changes: object) -> Path:
        store = tmp_path / "store"
        entries = []
        for seed, (tile, subset) in enumerate([("2_10", "train"), ("4_10", "val"), *((t, "test") for t in test)]):
            pixels = make_tile(seed)
            if tile in without_dsm:  # and nothing in it is high
                low = {"label_HW": pixels.label_HW // 2 * 2, "eroded_HW": pixels.label_HW // 2 * 2}
                pixels = replace(pixels, **low, dsm_HW=np.full_like(pixels.dsm_HW, np.nan), sensors=("rgb",))
            write_tile(store / f"{tile}.arrow", pixels)
            counts = tuple(np.bincount(pixels.label_HW.ravel(), minlength=6).tolist())
            place = ("EPSG:32633", (0.05, 0.0, 0.0, 0.0, -0.05, 0.0))
            entries.append(
                TileEntry(
                    tile,
                    subset,
                    f"{tile}.arrow",
                    SIDE_PX,
                    SIDE_PX,
                    *place,
                    counts,
                    0,
                    0,
                    0,
                    0.0,
                    (),
                    {"a.tif": "00"},
                    sensors=pixels.sensors,
                )
            )
        known = {
            "dataset": "sample",
            "source": "sample",
            "split": "sample",
            "classes": tuple(c.name for c in CLASSES),
            "in_means": tuple(c.in_means for c in CLASSES),
            "palette": tuple(c.rgb for c in CLASSES),
            "bands": ("red", "green", "blue"),
            "image_range": (0.0, 255.0),
            "image_mean": (0.5, 0.5, 0.5),
            "image_std": (0.25, 0.25, 0.25),
            "gsd_m": 0.05,
            "heights": HEIGHTS,
            "acknowledgement": "Generated scenes.",
            "tool_version": "0.0.0",
            "tiles": tuple(entries),
        }
        write_manifest(store, Manifest(**(known | changes)))
        return store

    return make


@pytest.fixture
def facts_for() -> Callable[..., ModelFacts]:
    def make(store: Path, network: MoBaNetConfig | None = None, **changes: object) -> ModelFacts:
        data = Store(store)
        manifest = data.manifest
        known = {
            "network": network or MoBaNetConfig(backbone="vit_tiny_patch16_224"),
            "classes": manifest.classes,
            "in_means": manifest.in_means,
            "palette": manifest.palette,
            "bands": manifest.bands,
            "gsd_m": manifest.gsd_m,
            "heights": manifest.heights,
            "image_range": manifest.image_range,
            "image_mean": (0.5, 0.5, 0.5),
            "image_std": (0.25, 0.25, 0.25),
            "window_px": 16,
            "dataset": "sample",
            "source": "sample",
            "split": "sample",
            "acknowledgement": manifest.acknowledgement,
            "data_md5": data.data_md5,
            "git_commit": "c" * 40,
            "tool_version": "0.0.0",
            "step": 300,
            "seed": 1,
            "validation": {"miou_fused": 80.123456, "expected_miou": 75.0},
        }
        return ModelFacts(**(known | changes))

    return make


@pytest.fixture
def use_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, facts_for: Callable[..., ModelFacts]
) -> Callable[..., Path]:
    """Make the step read a rule-based network; returns the path of its weight file."""

    def use(network: ByRule, store: Path, **changes: object) -> Path:
        weights = tmp_path / "best.safetensors"
        weights.write_bytes(b"weights")
        facts = facts_for(store, **changes)
        monkeypatch.setattr("components.common.predictors.scored.load_model", lambda path: (network.eval(), facts))
        return weights

    return use


@pytest.fixture
def by_rule() -> type[ByRule]:
    return ByRule
