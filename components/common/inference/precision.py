"""Run a trained network in the precision of its training, so that its scores mean the same in every step.

In: a network on its device, and the facts in its file. Out: a context in which it predicts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from components.common.inference.modelfile import ModelFacts
from model import MoBaNet
from model.speed import Precision, autocast, store_frozen_in_bf16, use_precision


def effective(precision: Precision, device: torch.device) -> Precision:
    """The precision in which `device` computes: TF32 exists on GPUs only, and a CPU uses float32 instead."""
    return "float32" if precision == "tf32" and device.type != "cuda" else precision


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
    use_precision(precision)
    try:
        with autocast(precision, device):
            yield
    finally:
        use_precision("float32")
        for parameter, data in stored:
            parameter.data = data
