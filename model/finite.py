"""Find a tensor with a NaN or an infinite value among many, with one transfer from the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def first_non_finite(
    tensors: Mapping[str, Tensor], all_reduce: Callable[[Tensor], Tensor] = lambda flags: flags
) -> str | None:
    """Name of the first tensor with a NaN or an infinite value; None if all values are finite.

    Args:
        tensors: name -> tensor, all on one device. Integers and empty tensors are finite.
        all_reduce: sums a tensor over all ranks, so that every rank returns the same name.
    """
    floats = {name: t.detach() for name, t in tensors.items() if t.is_floating_point() and t.numel()}
    if not floats:
        return None
    values = list(floats.values())  # below: the largest absolute value of each, or NaN; _foreach_norm is slow on a CPU
    largest = torch._foreach_norm(values, float("inf")) if values[0].is_cuda else [v.abs().amax() for v in values]
    bad = all_reduce((~torch.stack([value.float() for value in largest]).isfinite()).long()).tolist()
    return next((name for name, count in zip(floats, bad, strict=True) if count), None)
