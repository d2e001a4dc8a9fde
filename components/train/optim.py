"""AdamW over the trainable weights, and the learning rate as a function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from components.train.config import TrainConfig


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; one-dimensional weights (norms, biases, scales) are not decayed."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up to `learning_rate`, then a cosine to `min_learning_rate` at the last one; steps count from 1."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    swing = 0.5 * (1 + math.cos(math.pi * progress))
    return config.min_learning_rate + swing * (config.learning_rate - config.min_learning_rate)
