"""model/encoder.py: which streams run together, and which of them need a backward pass."""

from __future__ import annotations

import pytest
import torch

from model.training_loss import TrainingLoss
from tests.model.toys import OFF, ONE_OF_EACH_FAMILY, inputs, toy

families = pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)


def calls_of_the_backbone(network, image=None):
    """Batch size of every call of the backbone in a forward pass, and whether its result needs a backward pass."""
    found, (rgb, dsm) = [], inputs()
    network.encoder.backbone.vit.blocks[0].register_forward_hook(
        lambda _, given, out: found.append((len(out), out.requires_grad))
    )
    network(rgb if image is None else image, dsm)
    return found


@families
def test_without_prompts_a_frozen_image_stream_needs_no_backward_pass(name):
    assert calls_of_the_backbone(toy(name, cpia="none").train()) == [(2, False), (2, True)]


@pytest.mark.parametrize(
    ("changes", "bands"),
    [
        ({}, 3),
        ({"cpia": "adapter"}, 3),
        ({"cpia": "none", "finetune": True}, 3),
        ({"cpia": "none", "image_bands": 4}, 4),
    ],
)
def test_streams_that_both_need_gradients_are_one_batch(changes, bands):
    network = toy("vit_tiny_patch16_224", **changes).train()
    assert calls_of_the_backbone(network, torch.randn(2, bands, 64, 64)) == [(4, True)]


def test_outside_of_training_both_streams_are_one_batch_also_in_an_exported_graph():
    assert calls_of_the_backbone(toy("vit_tiny_patch16_224", cpia="none")) == [(4, True)]


@families
def test_streams_that_run_one_by_one_have_the_values_of_one_batch(name):
    encoder, images = toy(name, cpia="none").encoder, inputs()
    for apart, together in zip(encoder.train()(*images), encoder.eval()(*images), strict=True):
        torch.testing.assert_close(apart.fused_BChw, together.fused_BChw, atol=1e-4, rtol=1e-4)


def test_streams_that_run_one_by_one_are_compiled_as_one_graph():
    network = toy("vit_tiny_patch16_224", cpia="none")
    network.encoder.train()  # dropout stays off
    loss, (rgb, dsm), target = TrainingLoss(network, "float32", OFF), inputs(), torch.randint(0, 6, (2, 64, 64))
    compiled = torch.compile(loss._terms, backend="eager", dynamic=False, fullgraph=True)
    torch.testing.assert_close(compiled(rgb, dsm, target, None).sums_T, loss(rgb, dsm, target).sums_T)


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({}, True),
        ({"modalities": ("rgb",)}, True),
        ({"modalities": ("dsm",)}, False),
        ({"image_bands": 1}, False),
        ({"image_bands": 4}, False),
    ],
)
def test_finetuning_trains_the_patch_embedding_of_the_backbone_only_if_a_stream_uses_it(changes, trained):
    network = toy("vit_tiny_patch16_224", finetune=True, **changes)
    for name, parameter in network.encoder.backbone.named_parameters():
        assert parameter.requires_grad == (trained or "patch_embed" not in name), name
