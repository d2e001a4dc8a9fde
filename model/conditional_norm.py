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

CONDITIONS: tuple[Condition, ...] = ("both", "rgb", "dsm")

Conditions = Condition | Tensor
"""The condition of a batch; or, in evaluation, of each of its samples, `[B]`, as its index in `CONDITIONS`."""

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

    def forward(self, maps_BChw: Tensor, condition: Conditions) -> Tensor:
        """Normalise the maps of `condition`; training updates the statistics of that condition alone."""
        if isinstance(condition, Tensor):
            return self._by_sample(maps_BChw, condition)
        own = self._own(condition)
        if not self.training:
            mean_C, var_C = self._known(condition)
            return F.batch_norm(maps_BChw, mean_C, var_C, self.weight, self.bias, eps=self.eps)
        own.num_batches_tracked.add_(1)
        if self.synchronised:
            return self._over_ranks(maps_BChw, own)
        return F.batch_norm(
            maps_BChw, own.running_mean, own.running_var, self.weight, self.bias, True, self.momentum, self.eps
        )

    def _own(self, condition: Condition) -> Statistics:
        return self if condition == "both" else self.rgb if condition == "rgb" else self.dsm

    def _known(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Mean and variance of a condition in evaluation."""
        own = self._own(condition)
        if condition == "both":
            return own.running_mean, own.running_var
        seen = own.num_batches_tracked > 0  # a tensor decides, because reading the count would wait for the GPU
        return torch.where(seen, own.running_mean, self.running_mean), torch.where(
            seen, own.running_var, self.running_var
        )

    def _by_sample(self, maps_BChw: Tensor, index_B: Tensor) -> Tensor:
        """Evaluation of samples of several conditions."""
        assert not self.training, "statistics per sample are for evaluation"
        means, variances = zip(*(self._known(condition) for condition in CONDITIONS), strict=True)
        scale_3C = self.weight * torch.rsqrt(torch.stack(variances) + self.eps)
        shift_3C = self.bias - torch.stack(means) * scale_3C
        scale_BC11, shift_BC11 = (x_3C[index_B][:, :, None, None] for x_3C in (scale_3C, shift_3C))
        return (maps_BChw * scale_BC11 + shift_BC11).to(maps_BChw.dtype)

    def _over_ranks(self, maps_BChw: Tensor, own: Statistics) -> Tensor:
        """As `nn.SyncBatchNorm` in training."""
        group = dist.group.WORLD
        normed: Tensor = SyncedNorm.apply(
            maps_BChw,
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


def communicates(network: nn.Module) -> bool:
    """Whether a batch norm of the network exchanges statistics with other ranks in training."""
    return any(
        isinstance(module, nn.SyncBatchNorm) or (isinstance(module, ConditionalBatchNorm2d) and module.synchronised)
        for module in network.modules()
    )


class ConvNorm(nn.ModuleList):
    """A convolution, its norm, and maybe an activation."""

    def forward(self, maps_BChw: Tensor, condition: Conditions) -> Tensor:
        """Apply the layers; a conditional norm uses the statistics of `condition`."""
        for layer in self:
            conditional = isinstance(layer, ConditionalBatchNorm2d)
            maps_BChw = layer(maps_BChw, condition) if conditional else layer(maps_BChw)
        return maps_BChw
