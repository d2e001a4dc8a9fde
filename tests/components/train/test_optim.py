from __future__ import annotations

import pytest
import torch

from components.train.batches import Inputs
from components.train.optim import learning_rate, make_optimizer, take_step
from components.train.ranks.distributed import single_rank
from model.losses import loss_terms


def test_rate_rises_to_the_top_and_falls_to_the_bottom(train_config):
    config = train_config(steps=100, warmup_steps=10, learning_rate=1.0, min_learning_rate=0.1)
    assert learning_rate(1, config) == pytest.approx(0.1)
    assert learning_rate(10, config) == 1.0
    assert learning_rate(55, config) == pytest.approx(0.55)
    assert learning_rate(100, config) == pytest.approx(0.1)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_moves_all_that_trains_and_nothing_frozen_the_same_way_fused_or_not(train_config, toy_network, fused):
    def stepped(fused):
        network = toy_network().train()
        generator = torch.Generator().manual_seed(0)
        rgb, dsm = (torch.randn(2, bands, 64, 64, generator=generator) for bands in (3, 1))
        inputs = Inputs(rgb, dsm, torch.randint(0, 6, (2, 64, 64), generator=generator))

        def loss(rgb, dsm, target, copies):
            return loss_terms(network.forward_with_aux(rgb, dsm), target)

        config = train_config()
        return network, take_step(
            loss, make_optimizer(network, config, fused), inputs, 1, config, single_rank(torch.device("cpu"))
        )

    before, (network, figures), (other, other_figures) = toy_network(), stepped(fused), stepped(False)
    assert torch.equal(figures.loss, other_figures.loss)
    named = zip(before.named_parameters(), network.parameters(), other.parameters(), strict=True)
    for (name, old), new, plain in named:
        assert torch.equal(old, new) != new.requires_grad or "gate" in name or "reduce" in name, name
        torch.testing.assert_close(new, plain)


@pytest.mark.parametrize("limit", [None, 1e-3, 1e9])
def test_a_gradient_longer_than_the_limit_gets_its_length_and_the_norm_before_is_reported(
    train_config, toy_network, limit
):
    network = toy_network().train()
    generator = torch.Generator().manual_seed(0)
    rgb, dsm = (torch.randn(2, bands, 64, 64, generator=generator) for bands in (3, 1))
    inputs = Inputs(rgb, dsm, torch.randint(0, 6, (2, 64, 64), generator=generator))
    config = train_config(max_gradient_norm=limit)

    def loss(rgb, dsm, target, copies):
        return loss_terms(network.forward_with_aux(rgb, dsm), target)

    figures = take_step(loss, make_optimizer(network, config), inputs, 1, config, single_rank(torch.device("cpu")))
    gradients = torch.cat([p.grad.double().flatten() for p in network.parameters() if p.grad is not None])
    assert figures.gradient_norm > 0.1
    expected = limit if limit == 1e-3 else figures.gradient_norm.item()
    assert gradients.norm().item() == pytest.approx(expected, rel=1e-4)
