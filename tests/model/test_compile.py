"""A training step is one graph for torch.compile. The compiler's back end is left out, so that no GPU is needed."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from model import MoBaNet, MoBaNetConfig
from model.speed import prepare
from model.training_loss import Copies, SensorCopies, TrainingLoss
from tests.model.toys import OFF, TOYS

RELEASED = {"missing": "zero", "batch_norm": "shared"}
EXCLUDED = {"missing": "excluded", "batch_norm": "per-condition"}
VARIANTS = {
    "released": RELEASED,
    "excluded": EXCLUDED,
    "without prompts": EXCLUDED | {"cpia": "none"},
    "plain mean": EXCLUDED | {"dgfm": False, "cpia": "adapter"},
}


def batch():
    torch.manual_seed(0)
    rgb, dsm, target = torch.randn(4, 3, 32, 32), torch.randn(4, 1, 32, 32), torch.randint(0, 6, (4, 32, 32))
    dsm[0], rgb[1, :, :16] = torch.nan, torch.nan
    return rgb, dsm, target


def copies_of(rgb, dsm, target, places):
    chosen = slice(None) if places is None else places
    return Copies(*(SensorCopies(x[chosen], target[chosen], places) for x in (rgb, dsm)))


def one_graph(name, places, **changes):
    torch._dynamo.reset()
    torch.manual_seed(0)
    network = MoBaNet(MoBaNetConfig(backbone=name, backbone_args=TOYS[name], decoder_channels=16, **changes))
    speed = dataclasses.replace(OFF, frozen_bf16=True)
    prepare(network.train(), "bf16", speed)
    loss = TrainingLoss(network, "bf16", speed, paired_weight=1.0, distillation=0.5)
    compiled = torch.compile(loss._terms, fullgraph=True, dynamic=False, backend="eager")
    inputs = batch()
    terms = compiled(*inputs, None if places is False else copies_of(*inputs, places))
    terms[0].sum().backward()
    gradients = [p.grad for p in network.parameters() if p.requires_grad and p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(
    ("variant", "places"),
    [("released", False), ("excluded", torch.tensor([0, 2])), ("without prompts", None), ("plain mean", None)],
)
def test_a_step_is_one_graph(variant, places):
    one_graph("vit_tiny_patch16_224", places, **VARIANTS[variant])
