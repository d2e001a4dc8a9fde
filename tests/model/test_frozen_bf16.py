"""model/speed.py, `frozen_bf16`: what holds on every processor, whatever the order in which its kernels add.

The limits follow from the formats. bf16 has 8 significant bits, float32 has 24, so rounding to the nearest changes a
number by at most `U16` or `U32` of itself. Kernels add products of bf16 in float32 and round the result to bf16 once.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import NamedTuple

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from model.speed import autocast, prepare
from tests.model.toys import OFF, ONE_OF_EACH_FAMILY, inputs, toy

U16, U32 = torch.finfo(torch.bfloat16).eps / 2, torch.finfo(torch.float32).eps / 2
CPU = torch.device("cpu")
aten = torch.ops.aten
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.convolution.default}
families = pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
switch = pytest.mark.parametrize("frozen_bf16", [False, True])


class Product(NamedTuple):
    """A matrix product or convolution as the kernel was called, after autocast."""

    operation: object
    arguments: tuple
    result: torch.Tensor

    @property
    def operands(self):
        return [argument for argument in self.arguments if isinstance(argument, torch.Tensor)]

    @property
    def length(self):
        """How many numbers are added up for one number of the result."""
        if self.operation is aten.convolution.default:
            return self.arguments[1][0].numel() + 1
        return self.operands[-1].shape[-2] + 1

    def in_float64(self, *, magnitudes=False):
        """The result without rounding; with `magnitudes`, of the absolute values of the operands."""
        exact = [a.double() if isinstance(a, torch.Tensor) else a for a in self.arguments]
        return self.operation(*(a.abs() if magnitudes and isinstance(a, torch.Tensor) else a for a in exact))


class Recorder(TorchDispatchMode):
    """Keeps every product that is computed inside its block."""

    def __init__(self):
        super().__init__()
        self.products = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if operation in PRODUCTS:
            assert not kwargs
            self.products.append(Product(operation, args, result))
        return result


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
    """Between two products about one more operation rounds to bf16; independent errors add up as their squares."""
    network = prepared(name, frozen_bf16=True)
    rgb, dsm = inputs()
    with torch.no_grad():
        with Recorder() as recorder, autocast("bf16", CPU):
            found = network.encoder(rgb, dsm)
        expected = copy.deepcopy(network).double().encoder(rgb.double(), dsm.double())
    limit = U16 * math.sqrt(2 * len(recorder.products))
    for mine, exact in zip(found, expected, strict=True):
        error = (mine.fused_BChw.double() - exact.fused_BChw).norm()
        assert 0 < error < limit * exact.fused_BChw.norm()
