"""Find trainable weights that get no gradient: a module that is enabled but would never learn.

In: a network set up for training. Out: names of the weights without a gradient. The network is left unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from model.losses import mean_loss
from model.mobanet import MoBaNet
from model.training_loss import Loss

SIDE_PATCHES = 4
"""Side of the trial inputs, patches."""


def without_gradient(network: MoBaNet, loss: Loss, aux_weight: float) -> list[str]:
    """Names of the trainable weights whose gradient is missing or 0 everywhere.

    The function runs one forward and backward pass on noise. Evaluation mode keeps the running statistics unchanged.
    Layers that start at zero, such as the gates, block the gradients of the layers before them; they get small random
    weights during the trial.

    Args:
        network: network on its device and in its precision.
        loss: loss of this network, as training calls it.
        aux_weight: weight of the auxiliary losses.

    Raises:
        FloatingPointError: the loss of the trial is NaN or infinite, so the gradients say nothing.
    """
    device = next(network.parameters()).device
    side = SIDE_PATCHES * network.patch_size
    with _trial(network):
        rgb, dsm = (torch.randn(2, bands, side, side, device=device) for bands in (network.config.image_bands, 1))
        target = torch.randint(network.config.num_classes, (2, side, side), device=device)
        total = mean_loss(*loss(rgb, dsm, target), aux_weight)
        if not total.isfinite():
            raise FloatingPointError("the loss is NaN or infinite")
        total.backward()
        return [name for name, weight in _trainable(network) if weight.grad is None or not weight.grad.any()]


@contextmanager
def _trial(network: MoBaNet) -> Iterator[None]:
    """Use evaluation mode, no all-zero weights and a fixed seed inside the block; restore all of it afterwards."""
    training = network.training
    zeros = [weight for _, weight in _trainable(network) if not weight.any()]
    device = next(network.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(0)
        network.eval()
        for weight in zeros:
            torch.nn.init.normal_(weight, std=0.02)
        try:
            yield
        finally:
            for weight in zeros:
                torch.nn.init.zeros_(weight)
            network.zero_grad(set_to_none=True)
            network.train(training)


def _trainable(network: MoBaNet) -> Iterator[tuple[str, Tensor]]:
    return ((name, weight) for name, weight in network.named_parameters() if weight.requires_grad)
