"""Matrix products with frozen weights in 8-bit floats, forward and for the gradient of the input.

In: a network with frozen linear layers, in bf16. Out: the same network, whose frozen layers multiply in `float8_e4m3fn`
while gradients are recorded, with one scale per row of each operand. Without gradients (validation, evaluation,
prediction) they multiply in bf16, so scores do not depend on it. Trained weights are never rounded.
Source of the format: Micikevicius et al., "FP8 formats for deep learning" (arXiv 2209.05433).
Letters: R rows (tokens), I input channels, O output channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max
MULTIPLE = 16
"""The kernels need channels that are a multiple of this."""

CAPABILITY = (9, 0)
"""Compute capability of the first GPUs with these products (Hopper)."""


def supports_fp8(device: torch.device) -> bool:
    """Whether a device multiplies matrices of 8-bit floats."""
    on_gpu = device.type == "cuda" and torch.cuda.is_available()
    return on_gpu and torch.cuda.get_device_capability(device) >= CAPABILITY


def use_fp8(network: nn.Module) -> int:
    """Replace the frozen linear layers of a network; returns how many. Names and weights stay the same."""
    found = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and _is_frozen(child) and not (child.in_features | child.out_features) % MULTIPLE
    ]
    for parent, name, child in found:
        setattr(parent, name, FrozenLinear(child))
    return len(found)


def _is_frozen(layer: nn.Linear) -> bool:
    return not any(parameter.requires_grad for parameter in layer.parameters())


class FrozenLinear(nn.Linear):
    """A linear layer without gradient, with its weights also in 8-bit floats, once per direction of a product."""

    def __init__(self, layer: nn.Linear) -> None:
        """Take over the weights of a layer."""
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.train(layer.training)
        by_output, by_input = quantise(layer.weight), quantise(layer.weight.T)
        for name, tensor in zip(("weight_OI", "scale_O1", "weight_IO", "scale_I1"), by_output + by_input, strict=True):
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., I]` -> `[..., O]`."""
        if not torch.is_grad_enabled():
            return super().forward(x)
        made: Tensor = _Product.apply(x, self.weight_OI, self.scale_O1, self.weight_IO, self.scale_I1)
        return made if self.bias is None else made + self.bias.to(made.dtype)


class _Product(torch.autograd.Function):
    """The product with the weights; its backward pass is the product with their transpose."""

    @staticmethod
    def forward(x: Tensor, weight_OI: Tensor, scale_O1: Tensor, weight_IO: Tensor, scale_I1: Tensor) -> Tensor:
        return product(x, weight_OI, scale_O1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        _, _, _, weight_IO, scale_I1 = inputs
        ctx.save_for_backward(weight_IO, scale_I1)
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        weight_IO, scale_I1 = ctx.saved_tensors
        return product(gradient, weight_IO, scale_I1).to(ctx.dtype), None, None, None, None


def quantise(x_RI: Tensor) -> tuple[Tensor, Tensor]:
    """Rows scaled to the range of 8-bit floats, `[R, I]`, and the scale of each row, float32 `[R, 1]`."""
    scale_R1 = x_RI.float().abs().amax(-1, keepdim=True).clamp(min=1e-12) / LARGEST
    return (x_RI.float() / scale_R1).to(FP8).contiguous(), scale_R1


def product(x: Tensor, weight_OI: Tensor, scale_O1: Tensor) -> Tensor:
    """`x @ weight.T` in bf16, `[..., I]` -> `[..., O]`, from rows of `x` rounded to 8 bits."""
    rows_RI, scale_R1 = quantise(x.flatten(0, -2))
    if rows_RI.device.type == "cuda":
        made_RO = torch._scaled_mm(
            rows_RI, weight_OI.t(), scale_R1, scale_O1.t(), out_dtype=torch.bfloat16, use_fast_accum=True
        )
    else:  # the same numbers without the kernel, for tests
        made_RO = ((rows_RI.float() * scale_R1) @ (weight_OI.float() * scale_O1).T).bfloat16()
    return made_RO.unflatten(0, x.shape[:-1])
