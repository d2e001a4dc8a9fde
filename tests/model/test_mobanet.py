from __future__ import annotations

import itertools

import pytest
import torch

from model import MoBaNet, MoBaNetConfig, segmentation_loss
from model.mobanet import count_parameters, on_meta

TABLE = {  # backbone: total, trainable, trainable without auxiliary heads; millions
    "vit_small_patch14_dinov2": (25.31, 3.25, 2.07),
    "vit_base_patch14_dinov2": (92.76, 6.18, 5.00),
    "vit_large_patch14_dinov2": (313.35, 8.98, 7.80),
    "vit_giant_patch14_dinov2": (1153.11, 16.63, 15.44),
}

MODALITIES = (("rgb", "dsm"), ("rgb",), ("dsm",))


def millions(count):
    return round(count / 1e6, 2)


@pytest.mark.parametrize("name", TABLE)
def test_parameter_counts_equal_the_papers_table(name):
    total, trainable, without_heads = TABLE[name]
    full = count_parameters(on_meta(MoBaNetConfig(backbone=name)))["network"]
    bare = count_parameters(on_meta(MoBaNetConfig(backbone=name, aux_heads=False)))["network"]
    assert full.total / 1e6 == pytest.approx(total, abs=0.011)
    assert (millions(full.trainable), millions(bare.trainable)) == (trainable, without_heads)


def test_parts_add_up_to_the_network(toy_network):
    parts = count_parameters(toy_network())
    whole = parts.pop("network")
    assert whole.total == sum(p.total for p in parts.values())
    assert whole.trainable == sum(p.trainable for p in parts.values())


def inputs(side_px=64, batch=2):
    torch.manual_seed(3)
    return torch.randn(batch, 3, side_px, side_px), torch.randn(batch, 1, side_px, side_px)


def test_a_missing_modality_is_the_same_as_zeros(toy_network):
    network, (rgb, dsm) = toy_network(), inputs()
    torch.testing.assert_close(network(rgb, None), network(rgb, torch.zeros_like(dsm)))
    torch.testing.assert_close(network(None, dsm), network(torch.zeros_like(rgb), dsm))


def test_both_missing_and_a_side_that_does_not_fit_are_refused(toy_network):
    network = toy_network()
    with pytest.raises(ValueError, match="both missing"):
        network(None, None)
    with pytest.raises(ValueError, match="60 x 64 px .* multiples of 8"):
        network(torch.zeros(1, 3, 60, 64), None)


@pytest.mark.parametrize(
    ("cpia", "dgfm", "aux_heads", "modalities"),
    list(itertools.product(("residual", "adapter", "none"), (True, False), (True, False), MODALITIES)),
)
def test_every_switch_trains_all_that_it_leaves_on(toy_config, cpia, dgfm, aux_heads, modalities):
    network = MoBaNet(toy_config(cpia=cpia, dgfm=dgfm, aux_heads=aux_heads, modalities=modalities))
    rgb, dsm = inputs()
    output = network.forward_with_aux(rgb, dsm)
    assert output.logits.shape == (2, 6, 64, 64)
    assert (output.aux_rgb is not None) == (aux_heads and "rgb" in modalities)
    segmentation_loss(output, torch.randint(0, 6, (2, 64, 64)), aux_weight=0.01).backward()
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert trained == reached
    assert not any(name.startswith("encoder.backbone") for name in trained)


def test_finetuning_trains_the_backbone_too(toy_config):
    network = MoBaNet(toy_config(finetune=True))
    assert network.train().encoder.backbone.training
    assert all(p.requires_grad for p in network.parameters())
    assert not MoBaNet(toy_config()).train().encoder.backbone.training


def test_a_single_modality_network_does_not_look_at_the_other(toy_network):
    rgb, dsm = inputs()
    for modalities, same, other in (
        (("rgb",), (rgb, dsm + 1), (rgb + 1, dsm)),
        (("dsm",), (rgb + 1, dsm), (rgb, dsm + 1)),
    ):
        network = toy_network(modalities=modalities)
        torch.testing.assert_close(network(*same), network(rgb, dsm))
        assert not torch.allclose(network(*other), network(rgb, dsm))


def test_a_sample_does_not_depend_on_its_neighbours_in_the_batch(toy_network):
    network, (rgb, dsm) = toy_network(), inputs()
    torch.testing.assert_close(network(rgb, dsm)[1:], network(rgb[1:], dsm[1:]), atol=1e-5, rtol=1e-5)


def test_the_gate_starts_at_one_half_and_there_is_one_per_stage(toy_network):
    network = toy_network()
    logits, gates = network.forward_with_gates(*inputs())
    torch.testing.assert_close(logits, network(*inputs()))
    assert [tuple(g.shape) for g in gates] == [(2, 64, 8, 8)] * 4
    assert all(torch.equal(g, torch.full_like(g, 0.5)) for g in gates)
    assert toy_network(dgfm=False).forward_with_gates(*inputs())[1] == []


def test_adapter_injection_starts_as_the_identity(toy_network):
    rgb, dsm = inputs()
    adapter, none = toy_network(cpia="adapter"), toy_network(cpia="none")
    none.load_state_dict(adapter.state_dict(), strict=False)
    torch.testing.assert_close(adapter(rgb, dsm), none(rgb, dsm))


def test_the_dsm_stream_starts_with_a_copy_of_the_patch_embedding(toy_network):
    encoder = toy_network().encoder
    torch.testing.assert_close(encoder.dsm_patch_embedding.weight, encoder.backbone.patch_embedding.weight)
    assert encoder.dsm_patch_embedding.weight.requires_grad
    assert not encoder.backbone.patch_embedding.weight.requires_grad
