"""What many tests share: a toy network, a toy store, and a quiet, single-threaded torch."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from components.common.data import datasets
from components.common.data.store import Heights, Manifest, Tile, TileEntry, write_manifest, write_tile
from model import MoBaNet, MoBaNetConfig

COLOURS = np.array([[120, 120, 120], [124, 120, 117], [70, 110, 60], [64, 104, 56], [160, 60, 60], [140, 120, 90]])
HEIGHTS = np.array([0.0, 0.8, 0.02, 0.7, 0.15, 0.15])  # scaled; roofs look like roads, trees like lawns, but are high


FIRST = ("test_repro.py", "test_distributed.py", "test_divergence.py", "test_lost_processes.py")
"""Files to begin with. The first one takes longest, a complete training, so that other processes run all else then.
The others fork this process, and torch cannot compute gradients in a fork once exports have started autograd's threads.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the files of `FIRST` to the front."""
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


@pytest.fixture
def toy_config() -> Callable[..., MoBaNetConfig]:
    """Configuration of a network small enough for a test: timm's test_vit, patches of 8."""

    def make(**changes) -> MoBaNetConfig:
        args = {"patch_size": 8, "img_size": 64}
        return MoBaNetConfig(**{"backbone": "test_vit", "backbone_args": args, "decoder_channels": 16} | changes)

    return make


@pytest.fixture
def toy_network(toy_config) -> Callable[..., MoBaNet]:
    """A toy network with seeded random weights, in evaluation mode."""

    def make(**changes) -> MoBaNet:
        torch.manual_seed(0)
        return MoBaNet(toy_config(**changes)).eval()

    return make


def toy_tile(name: str, side_px: int) -> Tile:
    """Blobs of the six classes that neither image nor heights alone can tell apart."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    fields = np.stack([ndimage.gaussian_filter(rng.normal(size=(side_px, side_px)), 6) for _ in range(6)])
    label = (fields / fields.std((1, 2), keepdims=True)).argmax(0).astype(np.uint8)
    image = np.clip(COLOURS[label] + rng.normal(size=(side_px, side_px, 3)) * 8, 0, 255).astype(np.uint8)
    dsm = (HEIGHTS[label] + rng.normal(size=label.shape) * 0.03).astype(np.float32)
    dsm[rng.random(dsm.shape) < 0.002] = np.nan
    edges = ndimage.maximum_filter(label, 5) != ndimage.minimum_filter(label, 5)
    return Tile(image, dsm, label, np.where(edges, 255, label).astype(np.uint8))


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory) -> Path:
    """A store of the sample split's tiles, 96 px a side."""
    return write_toy_store(tmp_path_factory.mktemp("toy") / "store")


def write_toy_store(store: Path, side_px: int = 96) -> Path:
    """Write a store with the sample split's tile ids."""
    store.mkdir(parents=True)
    split, dataset = datasets.split("sample", "sample"), datasets.dataset("sample")
    entries = []
    for name in split.tiles:
        tile = toy_tile(name, side_px)
        write_tile(store / f"{name}.arrow", tile)
        entries.append(
            TileEntry(
                id=name,
                subset=split.subset_of(name),
                file=f"{name}.arrow",
                height_px=side_px,
                width_px=side_px,
                crs=dataset.crs,
                transform=(dataset.gsd_m, 0.0, 0.0, 0.0, -dataset.gsd_m, 0.0),
                class_px=tuple(int((tile.label_HW == k).sum()) for k in range(6)),
                ignored_px=0,
                snapped_px=0,
                unknown_px=0,
                dsm_missing_share=float(np.isnan(tile.dsm_HW).mean()),
                notes=(),
                sources={},
            )
        )
    manifest = Manifest(
        dataset="sample",
        source="sample",
        split="sample",
        classes=tuple(c.name for c in dataset.classes),
        in_means=tuple(c.in_means for c in dataset.classes),
        palette=tuple(c.rgb for c in dataset.classes),
        bands=dataset.image.bands,
        image_range=dataset.image.range,
        image_mean=dataset.image.mean,
        image_std=dataset.image.std,
        gsd_m=dataset.gsd_m,
        heights=Heights("above-ground", 0.0, 10.0, 12.0, None, (-0.5, 2.0), "datum"),
        acknowledgement=dataset.acknowledgement,
        tool_version="test",
        tiles=tuple(entries),
    )
    write_manifest(store, manifest)
    return store
