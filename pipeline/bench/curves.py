"""`mobanet bench curves`: whether our recipe learns as the released one does, on the crops of a store.

In: a store. Out: the loss of both recipes, averaged over windows of steps, for several seeds. A seed settles the first
weights, the crops, their order and the masks; both recipes get the same ones. Dropout is drawn by each in its own way.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import torch

from components.common.data.store import Store
from components.common.progress import track
from components.train.data import Crops, batches
from model import MoBaNet, MoBaNetConfig
from pipeline.bench.recipes import FLOAT32, OURS, Recipe, Setting, Trainer, recipes, released_train_config

WINDOW = 50
"""Steps that are averaged to one point of a curve."""


@dataclass(frozen=True, slots=True)
class Curves:
    """What `--json` prints: recipe -> seed -> mean loss of each window."""

    device: str
    backbone: str
    batch: int
    steps: int
    losses: dict[str, list[list[float]]]

    @property
    def differences(self) -> list[float]:
        """Ours minus the reference, mean over the seeds, for each window."""
        ours, reference = (list(zip(*self.losses[name], strict=True)) for name in (OURS, FLOAT32))
        return [statistics.fmean(a) - statistics.fmean(b) for a, b in zip(ours, reference, strict=True)]

    @property
    def noise(self) -> list[float]:
        """Largest minus smallest loss of the reference over the seeds, for each window."""
        return [max(window) - min(window) for window in zip(*self.losses[FLOAT32], strict=True)]


def curve(recipe: Recipe, setting: Setting, store: Store) -> list[float]:
    """Train one recipe from its seed on; the mean loss of each window of steps."""
    config = setting.train
    torch.manual_seed(config.seed)
    weights = MoBaNet(setting.network).state_dict()
    crops = batches(Crops(store, store.manifest.subset("train"), config), config, workers=0, first_step=1)
    trainer = Trainer(recipe, setting, weights, crops)
    losses = [trainer.step() for _ in track(range(config.steps), f"seed {config.seed}")]
    return [window.mean().item() for window in torch.stack(losses).split(WINDOW)]


def measure(path: Path, backbone: str, batch: int, crop_px: int, steps: int, seeds: range) -> Curves:
    """Curves of our recipe and of the released one, in float32 without TF32, for every seed."""
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
