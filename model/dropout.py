"""Dropout whose pattern does not depend on the number of ranks that share a batch.

Every rank draws the pattern of the complete batch from the same seed and uses the rows of its own samples. Thus one
process with a batch of 8 and two processes with 4 samples each train the same network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """In training, sets values or channels to 0 with probability `p` and scales the others by `1 / (1 - p)`."""

    def __init__(self, p: float, *, whole_maps: bool = False, batch_dim: int = 0) -> None:
        """Drop single values, or complete channels with `whole_maps`; samples are counted along `batch_dim`."""
        super().__init__()
        self.p, self.whole_maps, self.batch_dim = p, whole_maps, batch_dim
        self.rank, self.world_size = 0, 1  # see share_batch

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout to `x`, of any shape; returns the same shape, and `x` itself in evaluation mode."""
        if not self.training:
            return x
        own, shape = x.shape[self.batch_dim], list(x.shape)
        if self.whole_maps:
            shape[-2:] = 1, 1
        shape[self.batch_dim] = own * self.world_size
        kept = torch.rand(shape, device=x.device) >= self.p
        return x * kept.narrow(self.batch_dim, self.rank * own, own) / (1 - self.p)

    def extra_repr(self) -> str:
        """The arguments that `print` shows."""
        return f"p={self.p}, whole_maps={self.whole_maps}"


def share_batch(network: nn.Module, rank: int, world_size: int) -> None:
    """Set which part of every training batch the network will get: part `rank` of `world_size` equal parts."""
    for module in network.modules():
        if isinstance(module, Dropout):
            module.rank, module.world_size = rank, world_size
