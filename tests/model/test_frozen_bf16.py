"""model/speed.py, `frozen_bf16`: what holds on every processor, in whatever order its kernels add numbers."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from model.speed import autocast, prepare
from tests.model.roundings import U16, U32, Recorder
from tests.model.toys import OFF, ONE_OF_EACH_FAMILY, inputs, toy

CPU = torch.device("cpu")
families = pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
switch = pytest.mark.parametrize("frozen_bf16", [False, True])


def prepared(name, frozen_bf16):
    network = toy(name)
    prepare(network, "bf16", dataclasses.replace(OFF, frozen_bf16=frozen_bf16))
    torch.set_float32_matmul_precision("highest")
    return network


def products_of_a_step(network):
    """All products of a forward and a backward pass."""
    images = inputs()
    with Recorder() as recorder:
        with autocast("bf16", CPU):
            logits = network(*images)
        logits.square().mean().backward()
    return recorder.products


@families
def test_frozen_weights_are_stored_rounded_to_bf16_and_all_others_are_unchanged(name):
    before, network = toy(name).state_dict(), prepared(name, frozen_bf16=True)
    frozen = {key for key, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {f"encoder.backbone.{key}" for key, _ in network.encoder.backbone.named_parameters()}
    for key, tensor in network.state_dict().items():
        expected = before[key].bfloat16() if key in frozen else before[key]
        assert tensor.dtype == expected.dtype and torch.equal(tensor, expected), key


@families
@switch
def test_every_product_of_a_step_gets_and_gives_bf16(name, frozen_bf16):
    products = products_of_a_step(prepared(name, frozen_bf16))
    assert len(products) > 100
    for product in products:
        assert {tensor.dtype for tensor in (*product.operands, product.result)} == {torch.bfloat16}, product.operation


@families
@switch
def test_every_product_of_a_step_is_that_of_float64_rounded_once(name, frozen_bf16):
    """Adding `length` numbers in float32 changes the sum by at most `length * U32` of the sum of their magnitudes."""
    for product in products_of_a_step(prepared(name, frozen_bf16)):
        expected, magnitudes = product.in_float64(), product.in_float64(magnitudes=True)
        added = product.length * U32 * magnitudes
        limit = U16 * expected.abs() + (1 + U16) * added + torch.finfo(torch.bfloat16).tiny
        assert ((product.result.double() - expected).abs() <= limit).all(), product.operation


@families
def test_products_read_frozen_weights_where_they_are_stored_instead_of_casting_them(name):
    for frozen_bf16 in (False, True):
        network = prepared(name, frozen_bf16)
        read = {o.untyped_storage().data_ptr() for product in products_of_a_step(network) for o in product.operands}
        layers = [m for m in network.encoder.backbone.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
        assert len(layers) > 16
        assert {layer.weight.untyped_storage().data_ptr() in read for layer in layers} == {frozen_bf16}


@families
def test_gradients_of_trained_weights_are_float32_and_frozen_weights_have_none(name):
    network = prepared(name, frozen_bf16=True)
    products_of_a_step(network)
    reached = {key: parameter.grad for key, parameter in network.named_parameters() if parameter.grad is not None}
    assert reached and all(gradient.dtype == torch.float32 for gradient in reached.values())
    assert not any(key.startswith("encoder.backbone.") for key in reached)


@families
def test_features_are_those_of_the_rounded_weights_in_float64(name):
    network = prepared(name, frozen_bf16=True)
    rgb, dsm = inputs()
    with torch.no_grad():
        with Recorder() as recorder, autocast("bf16", CPU):
            found = network.encoder(rgb, dsm)
        expected = copy.deepcopy(network).double().encoder(rgb.double(), dsm.double())
    for mine, exact in zip(found, expected, strict=True):
        error = (mine.fused_BChw.double() - exact.fused_BChw).norm()
        assert 0 < error < recorder.expected_error * exact.fused_BChw.norm()
