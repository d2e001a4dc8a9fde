from __future__ import annotations

import dataclasses

import pytest
import torch

from model.gradients import without_gradient
from model.speed import SpeedConfig
from model.training_loss import TrainingLoss

PLAIN = SpeedConfig(**{f.name: False for f in dataclasses.fields(SpeedConfig)})


def missed(network, aux_weight=0.01, precision="float32"):
    return without_gradient(network, TrainingLoss(network, precision, PLAIN), aux_weight)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cpia": "adapter"},
        {"cpia": "none"},
        {"dgfm": False},
        {"modalities": ("dsm",)},
        {"image_bands": 4},
        {"missing": "excluded", "batch_norm": "per-condition"},
        {"missing": "excluded", "dgfm": False, "cpia": "adapter"},
        {"finetune": True},
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_whatever_is_switched_on_learns(toy_network, changes, precision):
    assert missed(toy_network(**changes), precision=precision) == []


def test_heads_whose_loss_does_not_count_are_found(toy_network):
    names = missed(toy_network(), aux_weight=0.0)
    assert names and all(name.startswith("aux.") for name in names)


def test_a_prompt_that_is_cut_off_is_found_by_name(toy_network, monkeypatch):
    network = toy_network()
    prompt = network.encoder.cpia[1]
    original = prompt.forward
    monkeypatch.setattr(prompt, "forward", lambda tokens, *more: tokens + original(tokens, *more).detach())
    names = missed(network)
    assert {f"encoder.cpia.1.{part}" for part in ("gamma_MC", "up.weight", "down.1.weight")} <= set(names)
    assert all(name.startswith("encoder.cpia.1.") for name in names)


def test_a_gate_that_is_multiplied_by_zero_is_found(toy_network, monkeypatch):
    network = toy_network()
    gate = network.encoder.dgfm[0]

    def average(rgb, dsm, presence):
        fused, gates = type(gate).forward(gate, rgb, dsm, presence)
        return (rgb + dsm) / 2 + 0 * fused, gates

    monkeypatch.setattr(gate, "forward", average)
    assert {name.split(".")[2] for name in missed(network)} == {"0"}


def test_the_trial_leaves_weights_statistics_gradients_and_random_numbers_alone(toy_network):
    network = toy_network(cpia="adapter").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    missed(network)
    assert torch.equal(torch.rand(4), expected)
    assert network.training and all(p.grad is None for p in network.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
