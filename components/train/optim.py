"""AdamW over the trainable weights, the learning rate as a function of the step, and one step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from components.train.config import TrainConfig
from components.train.distributed import Ranks
from components.train.inputs import Inputs, step_seed
from model.losses import mean_loss
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


def take_step(
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    inputs: Inputs,
    step: int,
    config: TrainConfig,
    ranks: Ranks,
) -> Tensor:
    """Make optimiser step `step`, counted from 1, on one batch.

    Args:
        loss: of the network; where ranks share the batch, its backward pass averages their gradients.
        optimizer: of its trainable weights.
        inputs: this rank's part of the batch.
        step: settles the learning rate and what dropout drops.
        config: section `train`.
        ranks: that share the batch.

    Returns:
        The loss of the batch, on the device; of several ranks each has a share, and the shares add up to the loss.
    """
    torch.manual_seed(step_seed(config, step))  # dropout
    terms = loss(inputs.rgb_B3HW, inputs.dsm_B1HW, inputs.target_BHW)
    total = mean_loss(terms.sums_T, ranks.total(terms.counts_T), config.aux_weight)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    optimizer.zero_grad(set_to_none=True)
    (total * ranks.size).backward()  # gradients are averaged, and should be added up
    optimizer.step()
    return total.detach().clone()  # clone: a graph's next replay overwrites its result
