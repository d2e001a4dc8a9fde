from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch

from components.common.inference import precision
from components.common.inference.precision import chosen, in_precision
from tests.components.conftest import toy_facts

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("wanted", "trained", "has_bf16", "expected"),
    [
        ("auto", "float32", True, "bf16"),
        ("auto", "float32", False, "float32"),
        ("auto", "bf16", False, "bf16"),
        ("trained", "bf16", False, "bf16"),
        ("trained", "tf32", True, "float32"),  # a CPU has no TF32
        ("float32", "bf16", True, "float32"),
        ("bf16", "float32", False, "bf16"),
    ],
)
def test_the_precision_is_the_wanted_one_or_what_processor_and_training_have(
    monkeypatch, toy_config, wanted, trained, has_bf16, expected
):
    monkeypatch.setattr(precision, "has_bf16", lambda device: has_bf16)
    assert chosen(wanted, replace(toy_facts(toy_config()), precision=trained), CPU) == expected


@pytest.mark.parametrize("wanted", ["float32", "bf16"])
def test_a_model_with_frozen_bf16_weights_predicts_in_any_precision(toy_network, wanted):
    network = toy_network()
    facts = replace(toy_facts(network.config), precision="bf16", frozen_bf16=True)
    image, dsm = torch.randn(1, 3, 64, 64), torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        exact = network(image, dsm)
        with in_precision(network, facts, CPU, wanted):
            logits = network(image, dsm)
    if wanted == "float32":
        assert torch.equal(logits, exact)
    else:
        assert 0 < (logits - exact).abs().max() < 0.1 * exact.abs().max()


def test_a_network_that_is_closed_leaves_the_precision_to_the_one_opened_after_it(toy_network):
    opened = []
    for _ in range(2):
        network, stack, thread = toy_network(), ExitStack(), ThreadPoolExecutor(1)  # autocast belongs to a thread
        context = in_precision(network, toy_facts(network.config), CPU, "bf16")
        thread.submit(stack.enter_context, context).result()
        opened.append((stack, thread))
    settings = []
    for stack, thread in opened:
        thread.submit(stack.close).result()
        settings.append(torch.get_float32_matmul_precision())
        thread.shutdown()
    assert settings == ["high", "highest"]
