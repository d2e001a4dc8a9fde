from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model import MoBaNet, MoBaNetConfig, segmentation_loss
from model.mobanet import count_parameters, on_meta
from model.reference import (
    COUNTER,
    PAIRED,
    PUBLISHED,
    _expected,
    _infer_config,
    backbone_size,
    from_reference,
    reference_name_to_ours,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"
SIZES = {"num_heads": 4, "tap_indices": (1, 3, 5, 7)}


def part(tensors, prefix):
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def reference_weights():
    return part(load_file(FIXTURES / "reference_native.safetensors"), "weights/")


@pytest.fixture(params=itertools.product(["reference_native", "reference_resampled"], ["zero", "excluded"]))
def reference(request):
    fixture, missing = request.param
    tensors = load_file(FIXTURES / f"{fixture}.safetensors")
    released = from_reference(reference_weights(), **SIZES)
    network = MoBaNet(dataclasses.replace(released.config, missing=missing)).eval()
    network.load_state_dict(released.state_dict())
    output = network.forward_with_aux(tensors["input/rgb"], tensors["input/dsm"][:, None])
    return network, tensors, output


def test_logits_match_the_released_network(reference):
    _, tensors, output = reference
    torch.testing.assert_close(output.logits, tensors["output/logits"], atol=2e-5, rtol=0)
    torch.testing.assert_close(output.aux_rgb, tensors["output/aux_rgb"], atol=2e-5, rtol=0)
    torch.testing.assert_close(output.aux_dsm, tensors["output/aux_dsm"], atol=2e-5, rtol=0)


def test_plain_forward_gives_the_same_logits(reference):
    network, tensors, output = reference
    torch.testing.assert_close(network(tensors["input/rgb"], tensors["input/dsm"][:, None]), output.logits)


def test_loss_and_every_given_gradient_match_the_released_network(reference):
    network, tensors, output = reference
    loss = segmentation_loss(output, tensors["input/target"].long(), aux_weight=0.01)
    torch.testing.assert_close(loss, tensors["output/loss"][0], atol=2e-5, rtol=0)
    loss.backward()
    ours = dict(network.named_parameters())
    given = part(tensors, "grad/")
    assert len(given) > 20
    for name, gradient in given.items():
        if match := PAIRED.fullmatch(name):
            stage, kind, modality = match.groups()
            mine = ours[f"encoder.cpia.{stage}.{kind}_MC"].grad[("rgb", "dsm").index(modality)]
        else:
            mine = ours[reference_name_to_ours(name)].grad
        assert (mine - gradient).norm() <= 1e-4 * gradient.norm(), name


def test_frozen_weights_get_no_gradient(reference):
    network, tensors, output = reference
    segmentation_loss(output, tensors["input/target"].long(), aux_weight=0.01).backward()
    assert all(p.grad is None for p in network.encoder.backbone.parameters())


def test_sizes_are_read_off_the_tensors():
    state = reference_weights()
    for head in ("rgb", "dsm"):
        state[f"aux_head_{head}.conv_out.0.weight"] = state[f"aux_head_{head}.conv_out.0.weight"][:4]
    state["decoder.classifier.1.0.weight"] = state["decoder.classifier.1.0.weight"][:4]
    state["image_encoder.backbone.register_tokens"] = torch.randn(1, 3, 64)
    network = from_reference(state, **SIZES).eval()
    assert network.config.num_classes == 4
    assert network.encoder.backbone.num_prefix_tokens == 1 + 3
    assert network(torch.randn(1, 3, 56, 84), torch.randn(1, 1, 56, 84)).shape == (1, 4, 56, 84)


def test_registers_stand_between_the_class_token_and_the_patches():
    state = reference_weights()
    state["image_encoder.backbone.register_tokens"] = torch.randn(1, 2, 64)
    backbone = from_reference(state, **SIZES).encoder.backbone
    tokens = backbone.tokens(torch.zeros(1, 64, 4, 4))
    torch.testing.assert_close(tokens[:, 1:3], state["image_encoder.backbone.register_tokens"])
    positions = state["image_encoder.backbone.pos_embed"]
    torch.testing.assert_close(tokens[:, 3:], positions[:, 1:])
    torch.testing.assert_close(tokens[:, :1], state["image_encoder.backbone.cls_token"] + positions[:, :1])


def test_a_missing_tensor_is_named():
    state = reference_weights()
    del state["image_encoder.peft_dgfm_blocks.2.rgb_reduce.weight"]
    with pytest.raises(ValueError, match=r"^lacks image_encoder\.peft_dgfm_blocks\.2\.rgb_reduce\.weight$"):
        from_reference(state, **SIZES)


def test_a_tensor_too_many_is_named():
    with pytest.raises(ValueError, match=r"^also contains surprise\.weight$"):
        from_reference(reference_weights() | {"surprise.weight": torch.zeros(1)}, **SIZES)


def test_all_differences_are_named_in_one_sentence():
    state = reference_weights() | {"one": torch.zeros(1), "two": torch.zeros(1)}
    del state["image_encoder.peft_cpia_blocks.1.tfts_gamma_dsm"], state["decoder.fpn_convs.0.0.weight"]
    state["aux_head_rgb.conv.1.bias"] = torch.zeros(7)
    with pytest.raises(ValueError) as raised:
        from_reference(state, **SIZES)
    lacks, contains, shapes = str(raised.value).split("; it ")
    assert lacks == "lacks image_encoder.peft_cpia_blocks.1.tfts_gamma_dsm, decoder.fpn_convs.0.0.weight"
    assert contains == "also contains one, two"
    assert shapes == "has other shapes: aux_head_rgb.conv.1.bias [7] instead of [256]"


def test_a_message_lists_a_limited_number_of_names():
    with pytest.raises(ValueError, match=r"also contains x0, .*, x19 and 980 more$"):
        from_reference(reference_weights() | {f"x{n}": torch.zeros(1) for n in range(1000)}, **SIZES)


def test_counts_of_batches_may_be_absent_as_in_old_checkpoints():
    state = {name: tensor for name, tensor in reference_weights().items() if not name.endswith(COUNTER)}
    assert len(state) < len(reference_weights())
    assert from_reference(state, **SIZES).config.num_classes == 6


@pytest.mark.parametrize(
    ("backbone", "millions"),
    [
        ("vit_small_patch14_dinov2", 25.31),
        ("vit_base_patch14_dinov2", 92.76),
        ("vit_large_patch14_dinov2", 313.35),
        ("vit_giant_patch14_dinov2", 1153.11),
    ],
)
def test_the_published_sizes_are_found_again(backbone, millions):
    """A checkpoint of this size, on the meta device, gives back the configuration that it was made with."""
    original = on_meta(MoBaNetConfig(backbone=backbone, backbone_args={"no_embed_class": True}))
    swiglu = "giant" in backbone
    state = {name: torch.empty(shape, device="meta") for name, shape in _expected(original, swiglu=swiglu).items()}
    size = PUBLISHED[backbone_size(state)]
    config = _infer_config(state, size.num_heads, size.tap_indices)
    found = on_meta(config)
    total = count_parameters(found)["network"].total  # of the page, which counts the unused mask token too
    assert total == pytest.approx(millions * 1e6, abs=1e4)
    assert {n: t.shape for n, t in found.state_dict().items()} == {n: t.shape for n, t in original.state_dict().items()}
    assert config.taps(backbone_size(state)[1]) == original.config.taps(backbone_size(state)[1])
    heads = [network.encoder.backbone.vit.blocks[0].attn.num_heads for network in (found, original)]
    assert heads == [size.num_heads] * 2


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_the_prefixes_of_ddp_and_compile_are_removed(prefix):
    plain = from_reference(reference_weights(), **SIZES).state_dict()
    wrapped = {prefix + name: tensor for name, tensor in reference_weights().items()}
    assert all(torch.equal(plain[name], t) for name, t in from_reference(wrapped, **SIZES).state_dict().items())
