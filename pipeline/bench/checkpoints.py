"""`mobanet bench train --checkpoints`: how much checkpoints slow training down, on one device, in one run.

The network of params.yaml trains on random crops in rounds of equal length that alternate between three ways: without
checkpoints, with checkpoints that the background thread writes, and with training waiting for the same thread at every
checkpoint, which is what writing in the training's own thread costs. The result is the median round, and the median
time that the training's thread spends in one checkpoint.
The files are written to the current folder's disk, to a temporary folder.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from components.common.params import section
from components.common.progress import track
from components.train.checkpoints.checkpoint import Checkpoints, Progress
from components.train.config import ModelParams, TrainConfig
from model import MoBaNet
from model.mobanet import count_parameters
from pipeline.bench.recipes import OURS, Setting, Trainer, recipes, released_train_config
from pipeline.bench.train import ROUNDS, WARM_UP_STEPS, device_name, random_crops, require_network

SAVES = 3
"""Checkpoints of a round."""

WAYS = NONE, BACKGROUND, WAITING = "none", "in the background", "in the training thread"


@dataclass(frozen=True, slots=True)
class Speed:
    """Figures of one way."""

    images_per_s: float  # median over the rounds
    spread: float  # (fastest round - slowest round) / median
    ratio: float  # images per second divided by those without checkpoints
    held_ms: float | None  # median time that a checkpoint holds the training's thread, milliseconds
    checkpoints: int  # of all rounds


@dataclass(frozen=True, slots=True)
class CheckpointReport:
    """Result of the benchmark, as printed by `--json`."""

    device: str
    torch: str
    backbone: str
    batch: int
    crop_px: int
    trained_weights: int
    file_mb: float  # size of a checkpoint, 2^20 bytes
    every_s: float
    ways: dict[str, Speed]


class Bench:
    """A network in training, and a folder for its checkpoints."""

    def __init__(self, setting: Setting, folder: Path, every_s: float) -> None:
        """Build the network and run the warm-up, including a first checkpoint, which allocates the copies."""
        torch.manual_seed(setting.train.seed)
        recipe = recipes(setting.device)[OURS]
        crops = random_crops(setting.train.batch_size, setting.train.crop_px, pinned=recipe.speed.prefetch)
        self._trainer = Trainer(recipe, setting, MoBaNet(setting.network).state_dict(), crops)
        self._setting, self._every_s, self._done = setting, every_s, 0
        self._kept = Checkpoints(folder, keep=1, identity={})
        self.held_s: dict[str, list[float]] = {way: [] for way in WAYS}  # of every checkpoint
        for _ in range(WARM_UP_STEPS):
            self._trainer.step()
        self._save(WAITING)
        self.held_s[WAITING].clear()

    def round(self, way: str) -> float:
        """Images per second of one round, `SAVES` intervals long."""
        begun, steps, saves = time.perf_counter(), 0, 0
        while (now := time.perf_counter() - begun) < SAVES * self._every_s:
            self._trainer.step()
            steps += 1
            if way != NONE and now >= saves * self._every_s:
                self._save(way)
                saves += 1
        if self._setting.device.type == "cuda":
            torch.cuda.synchronize()
        self._kept.wait()
        return steps * self._setting.train.batch_size / (time.perf_counter() - begun)

    def close(self) -> None:
        """Complete all writes."""
        self._kept.close()

    def _save(self, way: str) -> None:
        begun = time.perf_counter()
        self._done += 1
        self._kept.save(self._trainer.network, self._trainer.optimizer, Progress(self._done))
        if way == WAITING:
            self._kept.wait()
        self.held_s[way].append(time.perf_counter() - begun)


def measure(setting: Setting, every_s: float) -> CheckpointReport:
    """Measure all ways in alternating rounds, with a checkpoint every `every_s` seconds."""
    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=".") as folder:
        bench = Bench(setting, Path(folder), every_s)
        for _ in track(range(ROUNDS), "rounds"):
            for way in WAYS:
                speeds[way].append(bench.round(way))
        bench.close()
        (file,) = Path(folder).glob("step-*")
        file_mb = file.stat().st_size / 2**20
    medians = {way: statistics.median(values) for way, values in speeds.items()}
    return CheckpointReport(
        device=device_name(setting.device),
        torch=torch.__version__,
        backbone=setting.network.backbone,
        batch=setting.train.batch_size,
        crop_px=setting.train.crop_px,
        trained_weights=count_parameters(MoBaNet(setting.network))["network"].trainable,
        file_mb=file_mb,
        every_s=every_s,
        ways={way: _speed(values, medians[NONE], bench.held_s[way]) for way, values in speeds.items()},
    )


def _speed(speeds: list[float], without: float, held_s: list[float]) -> Speed:
    median = statistics.median(speeds)
    held_ms = 1000 * statistics.median(held_s) if held_s else None
    return Speed(median, (max(speeds) - min(speeds)) / median, median / without, held_ms, len(held_s))


def as_table(report: CheckpointReport) -> str:
    """The report as aligned text."""
    lines = [
        f"{report.device}, torch {report.torch}",
        f"{report.backbone}, batch {report.batch}, {report.crop_px} x {report.crop_px} px: "
        f"{report.trained_weights / 1e6:.1f} M trained weights, {report.file_mb:.0f} MB every {report.every_s:g} s",
        f"{'checkpoints':<24} {'images/s':>9} {'spread':>7} {'ratio':>7} {'ms each':>8} {'number':>7}",
    ]
    for way, row in report.ways.items():
        held = "-" if row.held_ms is None else f"{row.held_ms:.0f}"
        lines.append(
            f"{way:<24} {row.images_per_s:>9.1f} {row.spread:>7.1%} {row.ratio:>7.3f} {held:>8} {row.checkpoints:>7}"
        )
    return "\n".join(lines)


def bench_checkpoints(
    params: Path, backbone: str | None, batch: int | None, crop_px: int | None, every_s: float
) -> CheckpointReport:
    """Measure on the GPU if there is one, else on the CPU.

    Args:
        params: params.yaml with the sections `model` and `train`.
        backbone: a name from `mobanet model list`; None: `model.backbone`.
        batch: crops per step; None: `train.batch_size`.
        crop_px: side of a crop; None: `train.crop_px`.
        every_s: seconds between checkpoints.

    Raises:
        ParamsError: the parameters are not valid.
    """
    model, train = section(params, "model", ModelParams), section(params, "train", TrainConfig)
    network = model.network(num_classes=6, image_bands=3)
    if backbone is not None:
        network = replace(network, backbone=backbone, backbone_args={})
    require_network(network)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = released_train_config(batch or train.batch_size, crop_px or train.crop_px, steps=10**6)
    return measure(Setting(network, config, device), every_s)
