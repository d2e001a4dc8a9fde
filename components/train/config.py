"""The sections `model`, `train` and `runtime` of params.yaml as validated dataclasses."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from components.common.params import STRICT, Count, Points, Probability, Processes, Seed, Side, Steps, Text
from components.common.tracking.run import Backend
from components.train.weights.weight_sources import check_sources
from model import MaskingConfig, MoBaNetConfig
from model.config import NetworkOptions
from model.speed import Precision, SpeedConfig

Rate = Annotated[float, Field(gt=0, le=1e30)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Norm = Annotated[float, Field(ge=1e-4, le=1e30)]
Minutes = Annotated[float, Field(gt=0, le=10_080)]


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class ModelParams(NetworkOptions):
    """Section `model`: the options of the network and the source of its weights."""

    weights: Text  # none | hub | path of a .safetensors or .pth file | s3://bucket/key
    init: Text | None  # earlier model to start from: path | models:/NAME@ALIAS; None: start from `weights`

    def __post_init__(self) -> None:
        NetworkOptions.__post_init__(self)
        check_sources(self.weights, self.init)

    def network(self, num_classes: int, image_bands: int) -> MoBaNetConfig:
        """Configuration of the network for data with `num_classes` classes and `image_bands` image bands."""
        options = {f.name: getattr(self, f.name) for f in fields(NetworkOptions)}
        return MoBaNetConfig(**options, num_classes=num_classes, image_bands=image_bands)


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class ValidationConfig:
    """When and how validation tiles are scored, and how the checkpoint is selected."""

    every_steps: Steps  # steps between validations; the last step is always validated
    stride_px: Side  # step between windows, up to crop_px
    batch_size: Count  # windows per batch
    failure_probability: Probability  # p of the expected mIoU E(p): probability that a sensor fails
    guard: Points  # a selected checkpoint's fused mIoU is at most this far below the best one, percentage points
    pictures: Annotated[int, Field(ge=0, le=1000)]  # number of validation crops logged as pictures in MLflow


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class TrainConfig:
    """Section `train`: all parameters that affect the result."""

    seed: Seed  # seed of weights, crops, flips, masks and dropout, of any size
    steps: Steps  # optimiser steps
    batch_size: Annotated[Count, Field(ge=2)]  # crops per step; the coarsest pooling gives BatchNorm one value per crop
    crop_px: Side  # side of a crop; padded to a multiple of the patch size
    flips: bool  # horizontal and vertical, each with probability 0.5
    labels: Literal["full", "eroded"]  # ground truth for training: every labelled pixel, or without object boundaries
    precision: Precision  # float32; tf32 (GPU only); bf16 (autocast, trained weights stay in float32)
    learning_rate: Rate  # after the warm-up
    min_learning_rate: Weight  # at the end of the cosine, up to `learning_rate`
    warmup_steps: Annotated[int, Field(ge=0)]  # steps of linear warm-up, fewer than `steps`
    weight_decay: Weight  # weight decay of AdamW
    betas: tuple[Probability, Probability]  # betas of AdamW
    max_gradient_norm: Norm | None  # longer gradients are scaled down to this norm; None: no limit
    aux_weight: Weight  # weight of each auxiliary loss
    masking: MaskingConfig  # MCRM
    validation: ValidationConfig

    def __post_init__(self) -> None:
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps}; expected fewer than train.steps, which is {self.steps}"
            )
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate is {self.min_learning_rate}; expected train.learning_rate or less, which is "
                f"{self.learning_rate}"
            )
        copies = self.masking.copies(self.batch_size)
        if self.masking.paired and copies < 2:
            raise ValueError(
                f"masking.paired is {self.masking.paired:g}, which makes {copies} copies of each sensor in a batch of "
                f"{self.batch_size}; expected 0, or at least {4 / self.batch_size:g}, because BatchNorm needs two"
            )
        if self.validation.stride_px > self.crop_px:
            raise ValueError(
                f"validation.stride_px is {self.validation.stride_px}; expected train.crop_px or less, which is "
                f"{self.crop_px}"
            )


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class RuntimeConfig:
    """Section `runtime`: where and how training runs. These parameters change results by rounding only."""

    device: Literal["auto", "cpu", "cuda"]
    workers: Processes  # processes that cut crops; 0: the training process does it
    checkpoint_every_minutes: Minutes  # time between checkpoints; the most that an interruption loses
    checkpoint_every_steps: Steps | None  # also after this many steps; None: by time only
    keep_checkpoints: Count  # number of latest checkpoints to keep
    log_every_steps: Steps  # steps between log lines
    tracking: Backend  # mlflow | none
    experiment: Text  # name in MLflow
    speed: SpeedConfig
