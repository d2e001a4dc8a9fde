"""The sections `model`, `train` and `runtime` of params.yaml as validated dataclasses.

Every class raises ValueError if a value is out of range; the message starts with the name of the field.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from components.common.tracking.run import Backend
from model import MaskingConfig, MoBaNetConfig
from model.speed import Precision, SpeedConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelParams(MoBaNetConfig):
    """Section `model`: the network and the source of the backbone weights."""

    weights: str  # none | hub | path of a .safetensors or .pth file | s3://bucket/key
    init: str | None  # earlier model to start from: path | models:/NAME@ALIAS; None: start from `weights`

    def network(self, num_classes: int, image_bands: int) -> MoBaNetConfig:
        """Configuration of the network for data with `num_classes` classes and `image_bands` image bands."""
        given = {f.name: getattr(self, f.name) for f in fields(MoBaNetConfig)}
        return MoBaNetConfig(**given | {"num_classes": num_classes, "image_bands": image_bands})


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationConfig:
    """When and how validation tiles are scored, and how the checkpoint is selected."""

    every_steps: int  # steps between validations, >= 1; the last step is always validated
    stride_px: int  # step between windows, pixels, 1..crop_px
    batch_size: int  # windows per batch, >= 1
    failure_probability: float  # p of the expected mIoU E(p): probability that a sensor fails, 0 <= p < 1
    guard: float  # a selected checkpoint's fused mIoU is at most this far below the best one, percent points, >= 0
    pictures: int  # number of validation crops logged as pictures in MLflow, >= 0

    def __post_init__(self) -> None:
        _at_least(self, 1, "every_steps", "stride_px", "batch_size")
        _at_least(self, 0, "guard", "pictures")
        if not 0 <= self.failure_probability < 1:
            raise ValueError(f"failure_probability is {self.failure_probability}; expected 0 or more and below 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Section `train`: all parameters that affect the result."""

    seed: int  # seed of weights, crops, flips, masks and dropout, >= 0
    steps: int  # optimiser steps, >= 1
    batch_size: int  # crops per step, >= 2, because the coarsest pooling gives BatchNorm one value per crop
    crop_px: int  # side of a crop, pixels; padded to a multiple of the patch size
    flips: bool  # horizontal and vertical, each with probability 0.5
    labels: Literal["full", "eroded"]  # ground truth for training: every labelled pixel, or without object boundaries
    precision: Precision  # float32; tf32 (GPU only); bf16 (autocast, trained weights stay in float32)
    learning_rate: float  # after the warm-up, > 0
    min_learning_rate: float  # at the end of the cosine, >= 0
    warmup_steps: int  # steps of linear warm-up, >= 0
    weight_decay: float  # weight decay of AdamW, >= 0; not applied to one-dimensional weights
    betas: tuple[float, float]  # betas of AdamW, each 0 <= beta < 1
    max_gradient_norm: float | None  # longer gradients are scaled down to this norm, > 0; None: no limit
    aux_weight: float  # weight of each auxiliary loss, >= 0
    masking: MaskingConfig  # MCRM
    validation: ValidationConfig

    def __post_init__(self) -> None:
        _at_least(self, 2, "batch_size")
        _at_least(self, 1, "steps", "crop_px")
        _at_least(self, 0, "seed", "min_learning_rate", "warmup_steps", "weight_decay", "aux_weight")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; expected a number above 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas is {list(self.betas)}; expected two numbers from 0 to below 1")
        if self.max_gradient_norm is not None and self.max_gradient_norm <= 0:
            raise ValueError(f"max_gradient_norm is {self.max_gradient_norm}; expected a number above 0, or null")
        if self.validation.stride_px > self.crop_px:
            raise ValueError(f"validation.stride_px is {self.validation.stride_px}; expected crop_px or less")


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeConfig:
    """Section `runtime`: where and how training runs. These parameters change results by rounding only."""

    device: Literal["auto", "cpu", "cuda"]
    workers: int  # processes that cut crops, >= 0; 0: the training process does it
    checkpoint_every_minutes: float  # time between checkpoints, minutes, > 0; the most that an interruption loses
    checkpoint_every_steps: int | None  # also after this many steps, >= 1; None: by time only
    keep_checkpoints: int  # number of latest checkpoints to keep, >= 1
    log_every_steps: int  # steps between log lines, >= 1
    tracking: Backend  # mlflow | none
    experiment: str  # name in MLflow
    speed: SpeedConfig

    def __post_init__(self) -> None:
        _at_least(self, 1, "keep_checkpoints", "log_every_steps")
        if self.checkpoint_every_steps is not None:
            _at_least(self, 1, "checkpoint_every_steps")
        _at_least(self, 0, "workers")
        if self.checkpoint_every_minutes <= 0:
            raise ValueError(f"checkpoint_every_minutes is {self.checkpoint_every_minutes}; expected more than 0")


def _at_least(config: object, least: float, *names: str) -> None:
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(f"{name} is {getattr(config, name)}; expected {least} or more")
