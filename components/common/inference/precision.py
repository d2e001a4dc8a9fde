"""Run a trained network in the precision of its training, so that its scores mean the same in every step.

In: a network on its device, and the facts in its file. Out: a context in which it predicts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from components.common.inference.modelfile import ModelFacts
from components.common.params import Wanted
from model import MoBaNet
from model.speed import Precision, autocast, store_frozen_in_bf16, use_precision

ACTIVE: list[Precision] = []
"""Precisions of the networks in use, the newest last: torch has one setting for all threads of a process."""


def effective(precision: Precision, device: torch.device) -> Precision:
    """The precision in which `device` computes: TF32 exists on GPUs only, and a CPU uses float32 instead."""
    return "float32" if precision == "tf32" and device.type != "cuda" else precision


def chosen(wanted: Wanted, facts: ModelFacts, device: torch.device) -> Precision:
    """The precision in which a model predicts on `device`."""
    precision = wanted
    if wanted == "auto":
        precision = "bf16" if has_bf16(device) else "trained"
    return effective(facts.precision if precision == "trained" else precision, device)  # type: ignore[arg-type]


def has_bf16(device: torch.device) -> bool:
    """Whether a processor multiplies matrices of bf16 natively: NVIDIA's since Ampere, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def in_precision(network: MoBaNet, facts: ModelFacts, device: torch.device, precision: Precision) -> Iterator[None]:
    """Let a network that `load_model` returned compute in a precision of its own, until the block ends."""
    frozen_bf16 = facts.frozen_bf16 and precision == "bf16"
    with training_precision(network, replace(facts, precision=precision, frozen_bf16=frozen_bf16), device):
        yield


@contextmanager
def training_precision(network: MoBaNet, facts: ModelFacts, device: torch.device) -> Iterator[None]:
    """Let a network that `load_model` returned compute as in its training, until the block ends.

    If the training stored frozen weights in bf16, they are stored so here too: with float32 copies of them, the sums
    in the backbone would be float32, and the logits would differ.
    """
    precision = effective(facts.precision, device)
    stored = [(parameter, parameter.data) for parameter in network.parameters()]
    if facts.frozen_bf16:
        store_frozen_in_bf16(network)
    ACTIVE.append(precision)
    use_precision(precision)
    try:
        with autocast(precision, device):
            yield
    finally:
        ACTIVE.remove(precision)
        use_precision(ACTIVE[-1] if ACTIVE else "float32")
        for parameter, data in stored:
            parameter.data = data
