"""Dropout whose pattern belongs to the sample: the same however many ranks share the batch.

Every rank draws for the whole batch, from the same seed, and keeps the rows of its own samples. So one process with a
batch of 8 and two with 4 each train the same network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """In training, numbers (or whole maps of a channel) become 0 with probability `p`, the others grow by `1/(1-p)`."""

    def __init__(self, p: float, *, whole_maps: bool = False, batch_dim: int = 0) -> None:
        """Drop single numbers, or with `whole_maps` all places of a channel; `batch_dim` counts the samples."""
        super().__init__()
        self.p, self.whole_maps, self.batch_dim = p, whole_maps, batch_dim
        self.rank, self.world_size = 0, 1  # see share_batch

    def forward(self, x: Tensor) -> Tensor:
        """Same shape; in evaluation, the same numbers."""
        if not self.training:
            return x
        own, shape = x.shape[self.batch_dim], list(x.shape)
        if self.whole_maps:
            shape[-2:] = 1, 1
        shape[self.batch_dim] = own * self.world_size
        kept = torch.rand(shape, device=x.device) >= self.p
        return x * kept.narrow(self.batch_dim, self.rank * own, own) / (1 - self.p)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"p={self.p}, whole_maps={self.whole_maps}"


def share_batch(network: nn.Module, rank: int, world_size: int) -> None:
    """Tell a network which equal part of every training batch it will see: part `rank` of `world_size`."""
    for module in network.modules():
        if isinstance(module, Dropout):
            module.rank, module.world_size = rank, world_size
