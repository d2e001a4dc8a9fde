"""AdamW over the trainable weights, the learning rate as a function of the step, and one step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from components.train.config import TrainConfig
from components.train.inputs import Inputs, step_seed
from model.speed import Loss


def make_optimizer(network: nn.Module, config: TrainConfig, fused: bool = False) -> torch.optim.AdamW:
    """AdamW, by one `fused` kernel or by several; one-dimensional weights (norms, biases, scales) are not decayed."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=fused)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up to `learning_rate`, then a cosine to `min_learning_rate` at the last one; steps count from 1."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    swing = 0.5 * (1 + math.cos(math.pi * progress))
    return config.min_learning_rate + swing * (config.learning_rate - config.min_learning_rate)


def take_step(loss: Loss, optimizer: torch.optim.Optimizer, inputs: Inputs, step: int, config: TrainConfig) -> Tensor:
    """Make optimiser step `step`, counted from 1, on one batch; returns its loss, on the device."""
    torch.manual_seed(step_seed(config, step))  # dropout
    total = loss(inputs.rgb_B3HW, inputs.dsm_B1HW, inputs.target_BHW)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    optimizer.step()
    return total.detach().clone()  # clone: a graph's next replay overwrites its result
