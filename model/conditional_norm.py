"""Batch norm with running statistics per combination of sensors; weight and bias are shared.

Features of one sensor have other means and variances than fused ones, so one set of statistics fits none of them.
In and out: maps `[B, C, h, w]`. Which set is used is an argument of every call, so threads can share a network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm as SyncedNorm

Condition = Literal["both", "rgb", "dsm"]
"""Sensors that a forward pass was given."""

Norm = Callable[[int], nn.Module]
"""Makes the norm of a number of channels."""


class Statistics(nn.Module):
    """Running mean and variance of one condition, and how many batches they have seen."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int) -> None:
        """Start with mean 0 and variance 1."""
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))


class ConditionalBatchNorm2d(Statistics):
    """Batch norm that has its own statistics for both sensors, for the image alone and for the DSM alone.

    The statistics of both sensors have the names of those of `nn.BatchNorm2d`. A condition that was never trained uses
    them in evaluation.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        """Build the norm of maps with `channels` channels."""
        super().__init__(channels)
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.rgb, self.dsm = Statistics(channels), Statistics(channels)
        self.synchronised = False  # True: the statistics of a training batch are those of all ranks

    def forward(self, maps_BChw: Tensor, condition: Condition) -> Tensor:
        """Normalise the maps of `condition`; training updates the statistics of that condition alone."""
        own: Statistics = self if condition == "both" else self.rgb if condition == "rgb" else self.dsm
        if not self.training:
            mean_C, var_C = own.running_mean, own.running_var
            if condition != "both":  # a tensor decides, because reading the count would wait for the GPU
                seen = own.num_batches_tracked > 0
                mean_C = torch.where(seen, mean_C, self.running_mean)
                var_C = torch.where(seen, var_C, self.running_var)
            return F.batch_norm(maps_BChw, mean_C, var_C, self.weight, self.bias, eps=self.eps)
        own.num_batches_tracked.add_(1)
        if self.synchronised:
            return self._over_ranks(maps_BChw, own)
        return F.batch_norm(
            maps_BChw, own.running_mean, own.running_var, self.weight, self.bias, True, self.momentum, self.eps
        )

    def _over_ranks(self, maps_BChw: Tensor, own: Statistics) -> Tensor:
        """As `nn.SyncBatchNorm` in training."""
        dense = maps_BChw.is_contiguous(memory_format=torch.channels_last) or maps_BChw.is_contiguous()
        group = dist.group.WORLD
        normed: Tensor = SyncedNorm.apply(
            maps_BChw if dense else maps_BChw.contiguous(),
            self.weight,
            self.bias,
            own.running_mean,
            own.running_var,
            self.eps,
            self.momentum,
            group,
            dist.get_world_size(group),
        )
        return normed


def synchronise(network: nn.Module) -> None:
    """Let every conditional batch norm use the training samples of all ranks; torch supports this on GPUs only."""
    for module in network.modules():
        if isinstance(module, ConditionalBatchNorm2d):
            module.synchronised = True


class ConvNorm(nn.ModuleList):
    """A convolution, its norm, and maybe an activation."""

    def forward(self, maps_BChw: Tensor, condition: Condition) -> Tensor:
        """Apply the layers; a conditional norm uses the statistics of `condition`."""
        for layer in self:
            conditional = isinstance(layer, ConditionalBatchNorm2d)
            maps_BChw = layer(maps_BChw, condition) if conditional else layer(maps_BChw)
        return maps_BChw
