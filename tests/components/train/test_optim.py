from __future__ import annotations

import pytest

from components.train.optim import learning_rate, make_optimizer


def test_rate_rises_to_the_top_and_falls_to_the_bottom(train_config):
    config = train_config(steps=100, warmup_steps=10, learning_rate=1.0, min_learning_rate=0.1)
    assert learning_rate(1, config) == pytest.approx(0.1)
    assert learning_rate(10, config) == 1.0
    assert learning_rate(55, config) == pytest.approx(0.55)
    assert learning_rate(100, config) == pytest.approx(0.1)


def test_only_matrices_and_kernels_are_decayed_and_nothing_frozen_is_touched(train_config, toy_network):
    network = toy_network()
    decayed, plain = make_optimizer(network, train_config()).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    assert all(p.ndim <= 1 for p in plain["params"])
    assert all(p.ndim > 1 for p in decayed["params"])
    assert len(decayed["params"]) + len(plain["params"]) == sum(p.requires_grad for p in network.parameters())
