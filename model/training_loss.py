"""The network and its loss as one module, which training calls once per step.

In: a network that `model.speed.prepare` has prepared. Out: a module that returns the terms of the loss of a batch.
Letters: B batch, N copies, H W pixels (multiples of the patch size).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from model.conditional_norm import communicates
from model.losses import LossTerms, copy_terms, joined, loss_terms
from model.mobanet import MoBaNet
from model.speed import Precision, SpeedConfig, autocast


class SensorCopies(NamedTuple):
    """Copies of some crops of a batch that have one sensor only."""

    values_NCHW: Tensor  # normalised image or scaled heights; NaN = not measured
    target_NHW: Tensor  # int64, 255 = ignore
    places_N: Tensor | None  # int64, index of the crop in the batch; None: a copy of every crop, in order


class Copies(NamedTuple):
    """The copies of a batch."""

    rgb: SensorCopies
    dsm: SensorCopies


class Loss(Protocol):
    """A function that returns the terms of the loss of a batch, as `TrainingLoss` does."""

    def __call__(
        self, rgb_B3HW: Tensor, dsm_B1HW: Tensor, target_BHW: Tensor, copies: Copies | None = None, /
    ) -> LossTerms:
        """Image, heights, labels and copies as in `TrainingLoss.forward`."""


class TrainingLoss(nn.Module):
    """The network and its loss as one module, which training calls once per step and DDP wraps.

    With `compile`, the module is compiled for the shapes of its first call, and once more for the first batch with
    copies if batches before it have none. With `cuda_graphs`, the next call overwrites its result and the gradients.
    """

    def __init__(
        self,
        network: MoBaNet,
        precision: Precision,
        speed: SpeedConfig,
        *,
        paired_weight: float = 1.0,
        distillation: float = 0.0,
    ) -> None:
        """Wrap a network that `prepare` has prepared; `MaskingConfig` has the two weights of copies."""
        super().__init__()
        self.network, self._precision, self._speed = network, precision, speed
        self._paired_weight, self._distillation = paired_weight, distillation
        self._run: Callable[[Tensor, Tensor, Tensor, Copies | None], LossTerms] = self._terms
        if speed.compile:
            # Batch norms that communicate with other ranks break the graph.
            whole = not communicates(network)
            options: dict[str, Any] = {"triton.cudagraphs": speed.cuda_graphs}
            self._run = torch.compile(self._terms, dynamic=False, fullgraph=whole, options=options)

    def forward(
        self, rgb_B3HW: Tensor, dsm_B1HW: Tensor, target_BHW: Tensor, copies: Copies | None = None
    ) -> LossTerms:
        """Terms of the loss of one batch.

        The network runs once with both sensors, then once per sensor on its copies. Copies have the loss of the fused
        head only: an auxiliary head learns from the complete crop, which has the same stream before the fusion.

        Args:
            rgb_B3HW: normalised image; NaN = hidden or not measured.
            dsm_B1HW: scaled heights; NaN = hidden or not measured.
            target_BHW: int64 labels, 255 = ignore.
            copies: copies of crops of this batch; None: none.
        """
        if self._speed.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        return self._run(rgb_B3HW, dsm_B1HW, target_BHW, copies)

    def _terms(self, rgb_B3HW: Tensor, dsm_B1HW: Tensor, target_BHW: Tensor, copies: Copies | None) -> LossTerms:
        with autocast(self._precision, rgb_B3HW.device):
            output = self.network.forward_with_aux(rgb_B3HW, dsm_B1HW)
            if copies is not None:
                by_image = self.network(copies.rgb.values_NCHW, None)
                by_heights = self.network(None, copies.dsm.values_NCHW)
        terms = loss_terms(output, target_BHW)
        if copies is None:
            return terms
        of_image = self._copy_terms(by_image, copies.rgb, output.logits)
        of_heights = self._copy_terms(by_heights, copies.dsm, output.logits)
        return joined(terms, of_image, of_heights)

    def _copy_terms(self, logits_NKHW: Tensor, copies: SensorCopies, fused_BKHW: Tensor) -> LossTerms:
        teacher_NKHW = None
        if self._distillation:
            known_BKHW = fused_BKHW.detach()
            teacher_NKHW = known_BKHW if copies.places_N is None else known_BKHW.index_select(0, copies.places_N)
        return copy_terms(logits_NKHW, copies.target_NHW, teacher_NKHW, self._paired_weight, self._distillation)
