"""AdamW for the trainable weights, the learning rate schedule, and one optimiser step."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from timm.optim import param_groups_weight_decay
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from components.train.batches import Inputs, step_seed
from components.train.config import TrainConfig
from components.train.ranks.distributed import Ranks
from model import MoBaNet
from model.losses import mean_loss
from model.training_loss import Loss


def make_optimizer(network: MoBaNet, config: TrainConfig, fused: bool = False) -> torch.optim.AdamW:
    """Create AdamW for the trainable weights.

    Biases, norms, scales, tokens and position embeddings have no weight decay: weights of one dimension, and those that
    `MoBaNet.no_weight_decay` names. With a frozen backbone, these are the groups of the released code; a backbone that
    is trained has timm's. With `fused`, a step is a single kernel.
    """
    groups = param_groups_weight_decay(network, config.weight_decay, no_weight_decay_list=network.no_weight_decay())
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=fused)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of a step, counted from 1: linear warm-up, then a cosine to the minimum at the last step."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    swing = 0.5 * (1 + math.cos(math.pi * progress))
    return config.min_learning_rate + swing * (config.learning_rate - config.min_learning_rate)


class StepFigures(NamedTuple):
    """The figures of an optimiser step: scalars on the device, which nothing has waited for."""

    loss: Tensor  # share of this rank; the shares of all ranks add up to the loss of the batch
    gradient_norm: Tensor  # length of the gradient of all trainable weights, before clipping; equal on all ranks


def take_step(
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    inputs: Inputs,
    step: int,
    config: TrainConfig,
    ranks: Ranks,
) -> StepFigures:
    """Take one optimiser step. A gradient longer than `train.max_gradient_norm` is scaled down to that length.

    Args:
        loss: loss of the network; with several ranks, its backward pass averages their gradients.
        optimizer: optimiser of the trainable weights.
        inputs: this rank's part of the batch.
        step: number of the step, counted from 1; it determines the learning rate and the dropout pattern.
        config: section `train`.
        ranks: ranks that share the batch.
    """
    torch.manual_seed(step_seed(config, step))  # dropout
    terms = loss(inputs.rgb_B3HW, inputs.dsm_B1HW, inputs.target_BHW, inputs.copies)
    copies = len(inputs.copies or ())
    total = mean_loss(terms.sums_T, ranks.all_reduce(terms.counts_T), config.aux_weight, copies)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    optimizer.zero_grad(set_to_none=True)
    (total * ranks.size).backward()  # DDP averages the gradients, but the shares must be summed
    weights = [weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
    norm = get_total_norm([weight.grad for weight in weights])
    if config.max_gradient_norm is not None:
        clip_grads_with_norm_(weights, config.max_gradient_norm, norm)
    optimizer.step()
    return StepFigures(total.detach().clone(), norm)  # clone, because the next replay of a CUDA graph overwrites it
