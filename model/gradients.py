"""Which trainable weights a training step would not reach: a switched-on module that never learns, in silence.

In: a network that is set up for training. Out: names of weights without a gradient. Nothing of the network is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from model.losses import mean_loss
from model.mobanet import MoBaNet
from model.speed import Loss

SIDE_PATCHES = 4
"""Side of the trial inputs."""


def without_gradient(network: MoBaNet, loss: Loss, aux_weight: float) -> list[str]:
    """Names of the trainable weights whose gradient would be missing, or 0 in every place.

    One trial step on noise, in evaluation mode, so that no running statistic moves. Layers that start at zero, as the
    gates do, would hide what is behind them: they get small random weights for the trial.

    Args:
        network: on its device, in its precision.
        loss: of this network, as training calls it.
        aux_weight: of the auxiliary terms.
    """
    device = next(network.parameters()).device
    side = SIDE_PATCHES * network.patch_size
    with _trial(network):
        rgb, dsm = (torch.randn(2, bands, side, side, device=device) for bands in (network.config.image_bands, 1))
        target = torch.randint(network.config.num_classes, (2, side, side), device=device)
        mean_loss(*loss(rgb, dsm, target), aux_weight).backward()
        return [name for name, weight in _trainable(network) if weight.grad is None or not weight.grad.any()]


@contextmanager
def _trial(network: MoBaNet) -> Iterator[None]:
    """Evaluation mode, no zero weights, random numbers of its own; all as before afterwards."""
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
