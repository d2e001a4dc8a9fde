"""Precision, kernels, memory formats and compilation: settings that change speed and memory, not the mathematics.

In: a network with its final weights, on its device. Out: the same network, prepared.
Every setting may change rounding. docs/performance.md lists the gain of each.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from model.config import STRICT
from model.mobanet import MoBaNet
from model.upernet import AuxiliaryHead, UPerNet, resize, resize_by_products

Precision = Literal["float32", "tf32", "bf16"]


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class SpeedConfig:
    """Settings that make training faster or reduce its memory."""

    fused_attention: bool  # one attention kernel that does not store the matrix of scores
    frozen_bf16: bool  # with precision bf16: store frozen weights in bf16 instead of casting them at every step
    checkpoint_blocks: bool  # recompute the activations of a block in the backward pass: less memory, 1/3 more time
    channels_last: bool  # GPU only: channels-last memory format in the convolutions after the backbone
    matrix_resize: bool  # GPU only: upsample logits by two matrix products, whose backward pass is deterministic
    fused_optimizer: bool  # GPU only: AdamW in one kernel
    prefetch: bool  # GPU only: copy and normalise the next batch during the current step
    compile: bool  # GPU only: torch.compile; the first step takes one to two minutes
    cuda_graphs: bool  # GPU only, needs compile and a single rank: launch all kernels as one graph

    def __post_init__(self) -> None:
        if self.cuda_graphs and not self.compile:
            raise ValueError("cuda_graphs is True; expected False without compile")

    def on(self, device: torch.device, world_size: int = 1) -> SpeedConfig:
        """The settings that apply on `device` with `world_size` ranks; the others are switched off."""
        if device.type == "cuda":
            return replace(self, cuda_graphs=self.cuda_graphs and world_size == 1)
        off = ("channels_last", "matrix_resize", "fused_optimizer", "prefetch", "compile", "cuda_graphs")
        return replace(self, **dict.fromkeys(off, False))


def prepare(network: MoBaNet, precision: Precision, speed: SpeedConfig) -> None:
    """Prepare a network for training and set torch's precision; call it once, after the weights are loaded."""
    use_precision(precision)
    backbone = network.encoder.backbone
    backbone.checkpoint_blocks = speed.checkpoint_blocks
    fuse_attention(backbone, speed.fused_attention)
    if precision == "bf16" and speed.frozen_bf16:
        store_frozen_in_bf16(network)
    if speed.channels_last:
        for part in (network.encoder.dgfm, network.encoder.projections, network.decoder, network.aux):
            part.to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, UPerNet | AuxiliaryHead):
            module.resize_logits = resize_by_products if speed.matrix_resize else resize


def store_frozen_in_bf16(network: nn.Module) -> None:
    """Store the weights that are not trained in bf16."""
    for parameter in network.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()


def fuse_attention(network: nn.Module, on: bool) -> None:
    """Switch torch's fused attention kernel on or off in all timm attention modules of a network."""
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = on  # type: ignore[assignment]  # timm declares a bool


def use_precision(precision: Precision) -> None:
    """Allow or forbid TF32 in this process. With bf16 it is allowed, for the few products that remain in float32."""
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "float32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Context manager in which the network runs in training and validation: autocast to bf16, or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
