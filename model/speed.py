"""How the network computes, apart from what it computes: precision, kernels, memory layouts, compilation.

In: a network with its final weights, on its device. Out: the same network set up, and with its loss as one module.
No switch changes the mathematics; every one may change the rounding. What each gains: docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from model.losses import LossTerms, loss_terms
from model.mobanet import MoBaNet
from model.upernet import AuxiliaryHead, UPerNet, resize, resize_by_products

Precision = Literal["float32", "tf32", "bf16"]

Loss = Callable[[Tensor, Tensor, Tensor], LossTerms]
"""(image `[B, 3, H, W]`, DSM `[B, 1, H, W]`, labels `[B, H, W]`) -> terms of the loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeedConfig:
    """What makes training faster or smaller."""

    fused_attention: bool  # one kernel instead of a matrix of scores in memory
    frozen_bf16: bool  # with precision bf16: frozen weights are stored so, not cast at every step
    checkpoint_blocks: bool  # activations inside a block are computed twice: less memory, about a third more time
    channels_last: bool  # GPU only: channels innermost in every convolution after the backbone
    matrix_resize: bool  # GPU only: logits grow by two matrix products; the backward pass then adds in a fixed order
    fused_optimizer: bool  # GPU only: AdamW in one kernel
    prefetch: bool  # GPU only: the next batch is copied and normalised while this one is computed
    compile: bool  # GPU only: torch.compile; the first step takes a minute or two
    cuda_graphs: bool  # GPU only, with compile, not with several ranks: kernels are launched as one graph

    def __post_init__(self) -> None:
        if self.cuda_graphs and not self.compile:
            raise ValueError("cuda_graphs is True; expected False without compile")

    def on(self, device: torch.device, world_size: int = 1) -> SpeedConfig:
        """What of it holds on a device, for so many ranks."""
        if device.type == "cuda":
            return replace(self, cuda_graphs=self.cuda_graphs and world_size == 1)
        off = ("channels_last", "matrix_resize", "fused_optimizer", "prefetch", "compile", "cuda_graphs")
        return replace(self, **dict.fromkeys(off, False))


def prepare(network: MoBaNet, precision: Precision, speed: SpeedConfig) -> None:
    """Set a network up for training, and torch for the precision; call it once, after the weights were loaded."""
    use_precision(precision)
    backbone = network.encoder.backbone
    backbone.checkpoint_blocks = speed.checkpoint_blocks
    fuse_attention(backbone, speed.fused_attention)
    if precision == "bf16" and speed.frozen_bf16:
        for parameter in network.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.bfloat16()
    if speed.channels_last:
        for part in (network.encoder.dgfm, network.encoder.projections, network.decoder, network.aux):
            part.to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, UPerNet | AuxiliaryHead):
            module.resize_logits = resize_by_products if speed.matrix_resize else resize


def fuse_attention(network: nn.Module, on: bool) -> None:
    """Compute attention of every kind that timm has by torch's one kernel, or step by step."""
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = on  # type: ignore[assignment]  # timm's, a bool


def use_precision(precision: Precision) -> None:
    """Allow or forbid TF32 in this process; beside bf16 it is allowed, for the few products that stay float32."""
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "float32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Context in which the network runs, in training and in validation."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


class TrainingLoss(nn.Module):
    """The network and its loss as one module, compiled if so wanted: what is called once per step, and wrapped by DDP.

    A compiled loss is compiled for the shapes of its first call. With `cuda_graphs` its result and the gradients are
    overwritten by the next call.
    """

    def __init__(self, network: MoBaNet, precision: Precision, speed: SpeedConfig) -> None:
        """Wrap a network that `prepare` has set up."""
        super().__init__()
        self.network, self._precision, self._speed = network, precision, speed
        self._run: Callable[[Tensor, Tensor, Tensor], LossTerms] = self._terms
        if speed.compile:
            # Batch norms that speak with other ranks are no part of a graph.
            whole = not any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())
            options: dict[str, Any] = {"triton.cudagraphs": speed.cuda_graphs}
            self._run = torch.compile(self._terms, dynamic=False, fullgraph=whole, options=options)

    def forward(self, rgb_B3HW: Tensor, dsm_B1HW: Tensor, target_BHW: Tensor) -> LossTerms:
        """Terms of the loss of one batch: image, DSM and int64 labels, 255 = ignore."""
        if self._speed.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        return self._run(rgb_B3HW, dsm_B1HW, target_BHW)

    def _terms(self, rgb_B3HW: Tensor, dsm_B1HW: Tensor, target_BHW: Tensor) -> LossTerms:
        with autocast(self._precision, rgb_B3HW.device):
            output = self.network.forward_with_aux(rgb_B3HW, dsm_B1HW)
        return loss_terms(output, target_BHW)
