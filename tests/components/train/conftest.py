from __future__ import annotations

import dataclasses

import pytest

from components.common.params import from_mapping
from components.train.config import ModelParams, RuntimeConfig, TrainConfig
from model.config import NetworkOptions
from model.speed import SpeedConfig

TRAIN = {
    "seed": 1,
    "steps": 8,
    "batch_size": 2,
    "crop_px": 64,
    "flips": True,
    "labels": "full",
    "precision": "float32",
    "learning_rate": 2e-3,
    "min_learning_rate": 1e-6,
    "warmup_steps": 2,
    "weight_decay": 0.05,
    "betas": [0.9, 0.999],
    "max_gradient_norm": None,
    "aux_weight": 0.01,
    "masking": {"share": 0.5, "full_share": 0.5, "area": [0.1, 0.3], "aspect": [0.5, 2.0]},
    "validation": {
        "every_steps": 4,
        "stride_px": 64,
        "batch_size": 4,
        "failure_probability": 0.1,
        "guard": 0.5,
        "pictures": 1,
    },
}


PLAIN = {
    "fused_attention": True,
    "frozen_bf16": True,
    "checkpoint_blocks": False,
    "channels_last": True,
    "matrix_resize": True,
    "fused_optimizer": True,
    "prefetch": True,
    "compile": False,
    "cuda_graphs": False,
}


@pytest.fixture
def train_config():
    def make(**changes) -> TrainConfig:
        short = {"warmup_steps": 0} if changes.get("steps") in (1, 2) else {}
        return from_mapping(TrainConfig, TRAIN | short | changes, "train")

    return make


@pytest.fixture
def runtime():
    def make(**changes) -> RuntimeConfig:
        given = {
            "device": "cpu",
            "workers": 0,
            "checkpoint_every_steps": 2,
            "checkpoint_every_minutes": 10.0,
            "keep_checkpoints": 2,
            "log_every_steps": 2,
            "speed": SpeedConfig(**PLAIN),
        }
        return RuntimeConfig(**given | {"tracking": "none", "experiment": "test"} | changes)

    return make


@pytest.fixture
def model_params(toy_config):
    def make(**changes) -> ModelParams:
        config = toy_config(**changes)
        options = {field.name: getattr(config, field.name) for field in dataclasses.fields(NetworkOptions)}
        return ModelParams(weights="none", init=None, **options)

    return make
