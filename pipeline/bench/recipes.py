"""Training recipes for `bench train`, and one complete training step, from crops in host memory to new weights.

In: a recipe, a network configuration, crops. Out: a `Trainer` whose `step` does the work of one training step.
All recipes share the crops, the masks, the initial weights and the optimiser settings.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from components.common.inference.windows import Windows
from components.train.batches import Inputs, make_inputs, one_ahead
from components.train.config import TrainConfig, ValidationConfig
from components.train.crops import Batch
from components.train.optim import make_optimizer, take_step
from components.train.ranks.distributed import single_rank
from model import MaskingConfig, MoBaNet, MoBaNetConfig
from model.inputs import IMAGENET_MEAN, IMAGENET_STD
from model.speed import Precision, SpeedConfig, prepare, use_precision
from model.training_loss import TrainingLoss
from pipeline.bench.released_recipe import ReferenceNetwork

SWITCHED_ON = SpeedConfig(
    fused_attention=True,
    frozen_bf16=True,
    checkpoint_blocks=False,
    channels_last=True,
    matrix_resize=True,
    fused_optimizer=True,
    prefetch=True,
    compile=True,
    cuda_graphs=True,
)
SWITCHED_OFF = replace(
    SWITCHED_ON,
    fused_attention=False,
    frozen_bf16=False,
    channels_last=False,
    matrix_resize=False,
    fused_optimizer=False,
    prefetch=False,
    compile=False,
    cuda_graphs=False,
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to train the network."""

    two_passes: bool  # whether the backbone runs once per stream, as in the released code
    precision: Precision
    speed: SpeedConfig


OURS = "ours"
FLOAT32, AUTOCAST = "reference, float32", "reference, TF32 and autocast"
REFERENCE = Recipe(True, "float32", SWITCHED_OFF)
FUSED_REFERENCE = replace(SWITCHED_OFF, fused_attention=True)


def recipes(device: torch.device) -> dict[str, Recipe]:
    """Name -> recipe: ours with the best settings for the device, and the released one; on a GPU also faster variants.

    There is no autocast on a CPU, because its effect there depends on the processor, not on the recipe.
    """
    return our_recipes(device) | released_recipes(device)


def our_recipes(device: torch.device) -> dict[str, Recipe]:
    """Name -> recipe of this project, with the best settings for the device."""
    precision: Precision = "float32" if device.type == "cpu" else "bf16"
    return {OURS: Recipe(False, precision, SWITCHED_ON.on(device))}


def released_recipes(device: torch.device) -> dict[str, Recipe]:
    """Name -> released recipe; on a GPU also faster variants of it."""
    if device.type == "cpu":
        return {FLOAT32: REFERENCE}
    named = {FLOAT32: REFERENCE, AUTOCAST: replace(REFERENCE, precision="bf16")}
    fused = {f"{name}, fused attention": replace(named[name], speed=FUSED_REFERENCE) for name in named}
    return named | fused


def without_each_switch(recipe: Recipe) -> dict[str, Recipe]:
    """Variants of our recipe: unchanged, with one optimisation off at a time, and with block checkpointing on."""
    speed = recipe.speed
    changed = {
        f"{OURS}, without {name}": replace(recipe, speed=replace(speed, **{name: False}))
        for name in ("fused_attention", "frozen_bf16", "channels_last", "matrix_resize", "fused_optimizer", "prefetch")
    }
    graphs, plain = replace(speed, cuda_graphs=False), replace(speed, cuda_graphs=False, compile=False)
    return (
        {f"{OURS}, alone": recipe}
        | changed
        | {
            f"{OURS}, without cuda_graphs": replace(recipe, speed=graphs),
            f"{OURS}, without compile": replace(recipe, speed=plain),
            f"{OURS}, with tf32 for bf16": replace(recipe, precision="tf32"),
            f"{OURS}, with two passes": replace(recipe, two_passes=True),
            f"{OURS}, with checkpoint_blocks": replace(recipe, speed=replace(speed, checkpoint_blocks=True)),
        }
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """Network, training settings and device, the same for every recipe."""

    network: MoBaNetConfig
    train: TrainConfig
    device: torch.device


def released_train_config(batch_size: int, crop_px: int, steps: int, seed: int = 1) -> TrainConfig:
    """The released training settings, for a given number of steps."""
    validation = ValidationConfig(
        every_steps=steps, stride_px=crop_px, batch_size=batch_size, failure_probability=0.1, guard=0.5, pictures=0
    )
    return TrainConfig(
        seed=seed,
        steps=steps,
        batch_size=batch_size,
        crop_px=crop_px,
        flips=True,
        labels="full",
        precision="float32",
        learning_rate=2e-4,
        min_learning_rate=1e-6,
        warmup_steps=steps // 10,
        weight_decay=0.05,
        betas=(0.9, 0.999),
        max_gradient_norm=None,
        aux_weight=0.01,
        masking=MaskingConfig(share=0.25, full_share=0.0, area=(0.1, 0.3), aspect=(0.5, 2.0)),
        validation=validation,
    )


class Trainer:
    """Trains a network with one recipe."""

    def __init__(self, recipe: Recipe, setting: Setting, weights: Mapping[str, Tensor], crops: Iterable[Batch]) -> None:
        """Build the network.

        Args:
            recipe: how to train.
            setting: what to train.
            weights: initial weights.
            crops: one batch per step, in pinned memory if the recipe prefetches.
        """
        self._recipe, self._setting, self._done = recipe, setting, 0
        self._ranks = single_rank(setting.device)
        with setting.device:
            self.network = (ReferenceNetwork if recipe.two_passes else MoBaNet)(setting.network)
        self.network.load_state_dict(weights)
        prepare(self.network.train(), recipe.precision, recipe.speed)
        self.optimizer = make_optimizer(self.network, setting.train, recipe.speed.fused_optimizer)
        masking = setting.train.masking
        weights_of_copies = {"paired_weight": masking.paired_weight, "distillation": masking.distillation}
        self._loss = TrainingLoss(self.network, recipe.precision, recipe.speed, **weights_of_copies)
        self._inputs = self._stream(crops)

    def step(self) -> Tensor:
        """Do one optimiser step, and return its loss as a tensor on the device."""
        use_precision(self._recipe.precision)  # a global setting of torch, and other recipes train in this process too
        self._done += 1
        inputs, train = next(self._inputs), self._setting.train
        return take_step(self._loss, self.optimizer, inputs, self._done, train, self._ranks).loss

    def _stream(self, crops: Iterable[Batch]) -> Iterator[Inputs]:
        config, device = self._setting.train, self._setting.device
        windows = Windows.of(
            self.network,
            config.crop_px,
            stride_px=config.crop_px,
            batch_size=config.batch_size,
            image_mean=IMAGENET_MEAN,
            image_std=IMAGENET_STD,
        )
        modalities = self._setting.network.modalities
        make = functools.partial(make_inputs, config=config, windows=windows, device=device, modalities=modalities)
        if self._recipe.speed.prefetch:
            return one_ahead(crops, make, 1)
        return (make(batch, step) for step, batch in enumerate(crops, start=1))
