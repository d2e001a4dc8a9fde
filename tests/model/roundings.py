"""Records how a network computes: its matrix products as the kernels are called, and how often a result is rounded.

The limits follow from the formats. bf16 has 8 significant bits and float32 has 24, so rounding to the nearest number
changes a number by at most `U16` or `U32` of itself. Kernels add products of bf16 in float32 and round once to bf16.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

U16, U32 = torch.finfo(torch.bfloat16).eps / 2, torch.finfo(torch.float32).eps / 2
aten = torch.ops.aten
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.convolution.default}


class Product(NamedTuple):
    """A matrix product or convolution as the kernel was called, after autocast."""

    operation: object
    arguments: tuple
    result: torch.Tensor

    @property
    def operands(self):
        return [argument for argument in self.arguments if isinstance(argument, torch.Tensor)]

    @property
    def length(self):
        """How many numbers are added up for one number of the result; one of them may be a bias."""
        if self.operation is aten.convolution.default:
            return self.arguments[1][0].numel() + 1
        return self.operands[-1].shape[-2] + 1

    def in_float64(self, *, magnitudes=False):
        """The result without rounding; with `magnitudes`, that of the absolute values of all operands."""
        exact = [a.double() if isinstance(a, torch.Tensor) else a for a in self.arguments]
        return self.operation(*(a.abs() if magnitudes and isinstance(a, torch.Tensor) else a for a in exact))


class Recorder(TorchDispatchMode):
    """Records the products inside its block, and counts the operations whose result is bf16."""

    def __init__(self):
        super().__init__()
        self.products, self.roundings = [], 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple | list) else result
        is_view = operation._schema.returns[0].alias_info is not None
        self.roundings += isinstance(first, torch.Tensor) and first.dtype == torch.bfloat16 and not is_view
        if operation in PRODUCTS:
            assert not kwargs
            self.products.append(Product(operation, args, result))
        return result

    @property
    def expected_error(self):
        """Relative error of the outcome if every rounding moves it by `U16`: independent errors add up as squares."""
        return U16 * math.sqrt(self.roundings)
