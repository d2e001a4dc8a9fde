"""`mobanet bench curves`: compare the training loss of this project's recipe and the released one, on a store.

In: a store. Out: the loss of both recipes, averaged over windows of steps, for several seeds. A seed determines the
initial weights, the crops, their order and the masks; they are the same for both recipes. Only dropout differs.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import torch

from components.common.data.store import Store
from components.common.progress import track
from components.train.crops import Crops, batches
from model import MoBaNet, MoBaNetConfig
from pipeline.bench.recipes import FLOAT32, OURS, Recipe, Setting, Trainer, recipes, released_train_config

WINDOW = 50
"""Steps that are averaged into one point of a curve."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Result of the benchmark, as printed by `--json`; `losses`: recipe -> per seed, the mean loss of each window."""

    device: str
    backbone: str
    batch: int
    steps: int
    losses: dict[str, list[list[float]]]

    @property
    def differences(self) -> list[float]:
        """Loss of our recipe minus that of the reference, mean over the seeds, for each window."""
        ours, reference = (list(zip(*self.losses[name], strict=True)) for name in (OURS, FLOAT32))
        return [statistics.fmean(a) - statistics.fmean(b) for a, b in zip(ours, reference, strict=True)]

    @property
    def noise(self) -> list[float]:
        """Range (maximum minus minimum) of the reference's loss over the seeds, for each window."""
        return [max(window) - min(window) for window in zip(*self.losses[FLOAT32], strict=True)]


def curve(recipe: Recipe, setting: Setting, store: Store) -> list[float]:
    """Train one recipe with the seed of `setting.train`, and return the mean loss of each window of steps."""
    config = setting.train
    torch.manual_seed(config.seed)
    weights = MoBaNet(setting.network).state_dict()
    crops = batches(Crops(store, store.manifest.subset("train"), config), config, workers=0, first_step=1)
    trainer = Trainer(recipe, setting, weights, crops)
    losses = [trainer.step() for _ in track(range(config.steps), f"seed {config.seed}")]
    return [window.mean().item() for window in torch.stack(losses).split(WINDOW)]


def measure(path: Path, backbone: str, batch: int, crop_px: int, steps: int, seeds: range) -> Curves:
    """Train our recipe and the released one (float32 without TF32) with every seed.

    Args:
        path: folder of the store.
        backbone: timm name.
        batch: crops per step.
        crop_px: side of a crop, pixels.
        steps: optimiser steps of each run.
        seeds: seeds; each recipe runs once per seed.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    store, chosen = Store(path), recipes(device)
    network = MoBaNetConfig(
        backbone=backbone, num_classes=len(store.manifest.classes), image_bands=len(store.manifest.bands)
    )
    settings = [Setting(network, released_train_config(batch, crop_px, steps, seed), device) for seed in seeds]
    losses = {name: [curve(chosen[name], setting, store) for setting in settings] for name in (OURS, FLOAT32)}
    where = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    return Curves(where, backbone, batch, steps, losses)


def as_table(curves: Curves) -> str:
    """The curves as aligned text."""
    lines = [
        f"{curves.backbone}, batch {curves.batch}, {curves.device}, {len(curves.losses[OURS])} seeds",
        f"{'steps':<12} {'ours':>8} {'reference':>10} {'difference':>11} {'spread of the reference':>24}",
    ]
    columns = zip(
        zip(*curves.losses[OURS], strict=True),
        zip(*curves.losses[FLOAT32], strict=True),
        curves.differences,
        curves.noise,
        strict=True,
    )
    for index, (ours, reference, difference, noise) in enumerate(columns):
        steps = f"{index * WINDOW + 1}-{min(curves.steps, (index + 1) * WINDOW)}"
        means = f"{statistics.fmean(ours):>8.4f} {statistics.fmean(reference):>10.4f}"
        lines.append(f"{steps:<12} {means} {difference:>+11.4f} {noise:>24.4f}")
    return "\n".join(lines)
