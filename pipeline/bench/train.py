"""`mobanet bench train`: speed of a training step of this project's recipe and the released one, on one device.

Every recipe runs the same complete step: crops from host memory to the device, normalisation, masking, network, loss,
backward pass, AdamW. Rounds of steps alternate between the recipes; the result is the median round.
Utilisation is (model FLOPs per image x images per second) / ceiling. Model FLOPs: two per multiply-add in every matrix
product and convolution of one forward and backward pass of the network as trained (frozen weights have no gradient).
Attention counts as plain products, and recomputed values count once. Ceiling: the fastest of several bf16 products of
two square matrices on this device.
"""

from __future__ import annotations

import gc
import itertools
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from components.common.errors import ParamsError
from components.common.progress import track
from components.train.crops import Batch
from model import MoBaNet, MoBaNetConfig
from model.inputs import padded_side
from model.losses import mean_loss
from model.mobanet import on_meta
from model.speed import prepare
from model.training_loss import TrainingLoss
from pipeline.bench.recipes import (
    OURS,
    SWITCHED_OFF,
    Recipe,
    Setting,
    Trainer,
    our_recipes,
    recipes,
    released_train_config,
    without_each_switch,
)

log = logging.getLogger(__name__)

ROUNDS = 5
WARM_UP_STEPS = 4
CROPS = 4
"""Number of different batches; the steps cycle through them."""


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the benchmark."""

    backbone: str
    batch: int
    crop_px: int
    steps: int  # per round


RELEASED = Size("vit_large_patch14_dinov2", 24, 256, 10)
SMALL = Size("vit_tiny_patch16_224", 2, 224, 3)


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of one recipe."""

    images_per_s: float  # median over the rounds
    spread: float  # (fastest round - slowest round) / median
    step_ms: float
    utilisation: float  # share of the ceiling, 0..1
    peak_gib: float | None  # peak device memory of this recipe only; None: CPU
    first_steps_s: float  # time of the warm-up, including compilation
    loss: float  # loss of the first step


@dataclass(frozen=True, slots=True)
class Report:
    """Result of the benchmark, as printed by `--json`."""

    device: str
    torch: str
    timm: str
    backbone: str
    batch: int
    input_px: int  # side after padding
    steps: int  # per round
    gflops_per_image: float  # forward and backward
    ceiling_tflops: float
    recipes: dict[str, Measured]
    ratio: dict[str, float]  # other recipe -> images per second of our recipe divided by those of the other


def flops_per_image(config: MoBaNetConfig, side_px: int) -> int:
    """Model FLOPs of one image, forward and backward, as defined in the module docstring."""
    network, batch = on_meta(config).train(), 2
    prepare(network, "float32", SWITCHED_OFF)
    rgb, dsm = (torch.empty(batch, bands, side_px, side_px, device="meta") for bands in (3, 1))
    target = torch.zeros(batch, side_px, side_px, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter:
        sums_T, counts_T = TrainingLoss(network, "float32", SWITCHED_OFF)(rgb, dsm, target)
        mean_loss(sums_T, counts_T, aux_weight=0.01).backward()
    return counter.get_total_flops() // batch


def ceiling_flops(device: torch.device) -> float:
    """FLOP per second of the fastest of several bf16 matrix products."""
    side, repeats = (8192, 10) if device.type == "cuda" else (1024, 2)
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

    def products() -> None:
        for _ in range(repeats):
            torch.matmul(a, b)

    products()
    return max(2 * side**3 * repeats / timed(products, device) for _ in range(5))


def timed(work: Callable[[], None], device: torch.device) -> float:
    """Seconds that `work` takes, measured with CUDA events on a GPU."""
    if device.type != "cuda":
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    start_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start_event.record()
    work()
    end_event.record()
    torch.cuda.synchronize(device)
    return start_event.elapsed_time(end_event) / 1000


def device_name(device: torch.device) -> str:
    """Name of the GPU, or the number of CPU threads."""
    return torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def require_network(config: MoBaNetConfig) -> None:
    """Check that the network can be built.

    Raises:
        ParamsError: the backbone does not exist, or another option is not valid.
    """
    try:
        on_meta(config)
    except ValueError as error:
        raise ParamsError(str(error)) from None


def random_crops(batch: int, crop_px: int, pinned: bool) -> Iterator[Batch]:
    """Endless batches of noise, with the shapes and types of the data loader."""
    generator, made = torch.Generator().manual_seed(0), []
    for _ in range(CROPS):
        image = torch.randint(0, 256, (batch, 3, crop_px, crop_px), generator=generator, dtype=torch.uint8)
        dsm = torch.randn(batch, 1, crop_px, crop_px, generator=generator)
        label = torch.randint(0, 6, (batch, crop_px, crop_px), generator=generator, dtype=torch.uint8)
        has_image = torch.ones(batch, dtype=torch.bool)
        made.append(Batch(*(x.pin_memory() if pinned else x for x in (image, dsm, label, has_image))))
    return itertools.cycle(made)


class Timed:
    """A recipe after its warm-up, and the times of its rounds."""

    def __init__(self, recipe: Recipe, setting: Setting, weights: Mapping[str, torch.Tensor]) -> None:
        """Build the trainer, run the warm-up, and measure peak memory."""
        device, train = setting.device, setting.train
        crops = random_crops(train.batch_size, train.crop_px, pinned=recipe.speed.prefetch)
        on_gpu = device.type == "cuda"
        gc.collect()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() if on_gpu else 0
        start = time.perf_counter()
        self._trainer = Trainer(recipe, setting, weights, crops)
        self.loss = self._trainer.step().item()
        for _ in range(WARM_UP_STEPS - 1):
            self._trainer.step()
        if on_gpu:
            torch.cuda.synchronize()
        self.first_steps_s = time.perf_counter() - start
        self.peak_gib = (torch.cuda.max_memory_allocated() - before) / 2**30 if on_gpu else None
        self.seconds: list[float] = []
        self._device = device

    def round(self, steps: int) -> None:
        """Measure one round of `steps` steps."""

        def work() -> None:
            for _ in range(steps):
                self._trainer.step()

        self.seconds.append(timed(work, self._device) / steps)


def measure(setting: Setting, chosen: Mapping[str, Recipe], others: Mapping[str, Recipe], steps: int) -> Report:
    """Measure recipes in `ROUNDS` rounds of `steps` steps each.

    Args:
        setting: network, training settings and device.
        chosen: recipes that are all in memory, with alternating rounds; the first one is ours.
        others: recipes that are measured afterwards, one at a time.
        steps: steps per round.
    """
    device, side_px = setting.device, padded_side(setting.train.crop_px, on_meta(setting.network).patch_size)
    flops, ceiling = flops_per_image(setting.network, side_px), ceiling_flops(device)
    torch.manual_seed(setting.train.seed)
    weights = MoBaNet(setting.network).state_dict()
    benches = {name: Timed(recipe, setting, weights) for name, recipe in chosen.items()}
    for _ in track(range(ROUNDS), "rounds"):
        for bench in benches.values():
            bench.round(steps)
    batch, cost_s = setting.train.batch_size, flops / ceiling
    measured = {name: _figures(bench, batch, cost_s) for name, bench in benches.items()}
    benches.clear()
    for name, recipe in track(others.items(), "switches", len(others)):
        torch.compiler.reset()  # frees the graphs of the previous recipe
        bench = Timed(recipe, setting, weights)
        for _ in range(ROUNDS):
            bench.round(steps)
        measured[name] = _figures(bench, batch, cost_s)
        log.info("%s: %.1f images/s", name, measured[name].images_per_s)
        del bench
    ours = next(iter(measured.values())).images_per_s
    return Report(
        device=device_name(device),
        torch=torch.__version__,
        timm=timm.__version__,
        backbone=setting.network.backbone,
        batch=setting.train.batch_size,
        input_px=side_px,
        steps=steps,
        gflops_per_image=flops / 1e9,
        ceiling_tflops=ceiling / 1e12,
        recipes=measured,
        ratio={name: ours / figures.images_per_s for name, figures in list(measured.items())[1:]},
    )


def _figures(bench: Timed, batch: int, ceiling_s_per_image: float) -> Measured:
    median = statistics.median(bench.seconds)
    return Measured(
        images_per_s=batch / median,
        spread=(max(bench.seconds) - min(bench.seconds)) / median,
        step_ms=median * 1000,
        utilisation=batch / median * ceiling_s_per_image,
        peak_gib=bench.peak_gib,
        first_steps_s=bench.first_steps_s,
        loss=bench.loss,
    )


def as_table(report: Report) -> str:
    """The report as aligned text."""
    lines = [
        f"{report.device}, torch {report.torch}, timm {report.timm}",
        f"{report.backbone}, batch {report.batch}, {report.input_px} x {report.input_px} px: "
        f"{report.gflops_per_image:.0f} GFLOP per image; bf16 ceiling {report.ceiling_tflops:.1f} TFLOP/s",
        f"{'recipe':<48} {'images/s':>9} {'spread':>7} {'of ceiling':>11} {'peak GiB':>9} {'ratio':>7}",
    ]
    for name, row in report.recipes.items():
        peak = "-" if row.peak_gib is None else f"{row.peak_gib:.1f}"
        ratio = f"{report.ratio[name]:.2f}" if name in report.ratio else ""
        lines.append(
            f"{name:<48} {row.images_per_s:>9.1f} {row.spread:>7.1%} {row.utilisation:>11.1%} {peak:>9} {ratio:>7}"
        )
    return "\n".join(lines)


def bench_train(
    backbone: str | None, batch: int | None, crop_px: int | None, steps: int | None, switches: bool, alone: bool
) -> Report:
    """Measure on the GPU if there is one, else on the CPU.

    An argument of None means the released setting on a GPU, and a small setting on a CPU.

    Args:
        backbone: a name from `mobanet model list`.
        batch: crops per step.
        crop_px: side of a crop; padded to a multiple of the patch size.
        steps: optimiser steps of each round.
        switches: also time our recipe with each of its switches off.
        alone: leave out the released recipe.

    Raises:
        ParamsError: the backbone does not exist.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    usual = RELEASED if device.type == "cuda" else SMALL
    network = MoBaNetConfig(backbone=backbone or usual.backbone)
    require_network(network)
    train = released_train_config(batch or usual.batch, crop_px or usual.crop_px, steps=1000)
    chosen = our_recipes(device) if alone else recipes(device)
    others = without_each_switch(chosen[OURS]) if switches else {}
    return measure(Setting(network, train, device), chosen, others, steps or usual.steps)
