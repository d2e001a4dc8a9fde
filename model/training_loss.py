"""The network and its loss as one module, which training calls once per step.

In: a network that `model.speed.prepare` has prepared. Out: a module that returns the terms of the loss of a batch.
Letters: B batch, H W pixels (multiples of the patch size).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from model.losses import LossTerms, loss_terms
from model.mobanet import MoBaNet
from model.speed import Precision, SpeedConfig, autocast

Loss = Callable[[Tensor, Tensor, Tensor], LossTerms]
"""(image `[B, bands, H, W]`, DSM `[B, 1, H, W]`, labels `[B, H, W]`) -> terms of the loss."""


class TrainingLoss(nn.Module):
    """The network and its loss as one module, which training calls once per step and DDP wraps.

    With `compile`, the module is compiled for the shapes of its first call. With `cuda_graphs`, the next call
    overwrites its result and the gradients.
    """

    def __init__(self, network: MoBaNet, precision: Precision, speed: SpeedConfig) -> None:
        """Wrap a network that `prepare` has prepared."""
        super().__init__()
        self.network, self._precision, self._speed = network, precision, speed
        self._run: Callable[[Tensor, Tensor, Tensor], LossTerms] = self._terms
        if speed.compile:
            # Batch norms that communicate with other ranks break the graph.
            whole = not any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())
            options: dict[str, Any] = {"triton.cudagraphs": speed.cuda_graphs}
            self._run = torch.compile(self._terms, dynamic=False, fullgraph=whole, options=options)

    def forward(self, rgb_B3HW: Tensor, dsm_B1HW: Tensor, target_BHW: Tensor) -> LossTerms:
        """Terms of the loss of one batch.

        Args:
            rgb_B3HW: normalised image.
            dsm_B1HW: scaled heights.
            target_BHW: int64 labels, 255 = ignore.
        """
        if self._speed.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        return self._run(rgb_B3HW, dsm_B1HW, target_BHW)

    def _terms(self, rgb_B3HW: Tensor, dsm_B1HW: Tensor, target_BHW: Tensor) -> LossTerms:
        with autocast(self._precision, rgb_B3HW.device):
            output = self.network.forward_with_aux(rgb_B3HW, dsm_B1HW)
        return loss_terms(output, target_BHW)
