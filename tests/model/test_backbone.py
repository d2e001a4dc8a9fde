from __future__ import annotations

import dataclasses

import pytest
import timm
import torch

from model import MoBaNetConfig, segmentation_loss
from model.backbone import FAMILIES, build_backbone
from model.speed import prepare
from tests.model.toys import OFF, ONE_OF_EACH_FAMILY, TOYS, inputs, randomise, toy

OTHER_GRID = (40, 72)  # pixels
families = pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)


def timms_own(name, backbone):
    """timm's model as timm makes it, with the same weights; what we leave out of it keeps its own."""
    theirs = timm.create_model(name, num_classes=0, **TOYS[name]).eval()
    theirs.load_state_dict(backbone.vit.state_dict(), strict=False)
    return theirs


def features_of_every_block(backbone, image):
    patches = backbone.patch_embedding(image)
    grid, tokens = tuple(patches.shape[-2:]), backbone.tokens(patches)
    for index in range(backbone.depth):
        tokens = backbone.run(tokens, grid, index, index)
        yield backbone.norm(tokens)[:, backbone.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid)


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, (64, 64)) for name in TOYS] + [(name, OTHER_GRID) for name in list(TOYS)[4:]],
)
def test_tokens_of_every_block_equal_timms_own(name, size):
    backbone = build_backbone(MoBaNetConfig(backbone=name, backbone_args=TOYS[name])).eval()
    randomise(backbone)
    image, _ = inputs(size)
    theirs = timms_own(name, backbone)
    has_norm = hasattr(theirs, "norm")  # SAM's neck is none
    expected = theirs.forward_intermediates(image, norm=has_norm, intermediates_only=True)
    for mine, other in zip(features_of_every_block(backbone, image), expected, strict=True):
        torch.testing.assert_close(mine, other)


@families
def test_stages_without_prompts_are_timms_features_of_the_taps(name):
    network = toy(name, cpia="none", dgfm=False)
    encoder, (rgb, dsm) = network.encoder, inputs()
    theirs = timms_own(name, encoder.backbone)
    maps = theirs.forward_intermediates(rgb, norm=hasattr(theirs, "norm"), intermediates_only=True)
    expected = encoder.projections[0](maps[encoder.taps[0]])
    torch.testing.assert_close(encoder(rgb, dsm)[0].modality_BChw["rgb"], expected, atol=1e-4, rtol=1e-4)


@families
@pytest.mark.parametrize("finetune", [False, True])
def test_gradients_reach_prompts_through_the_backbone_and_its_weights_only_when_finetuned(name, finetune):
    network = toy(name, finetune=finetune).train()
    output = network.forward_with_aux(*inputs())
    segmentation_loss(output, torch.randint(0, 6, (2, 64, 64)), aux_weight=0.01).backward()
    reached = {key for key, p in network.named_parameters() if p.grad is not None}
    assert reached == {key for key, p in network.named_parameters() if p.requires_grad}
    assert any(key.startswith("encoder.backbone") for key in reached) is finetune
    assert all(prompt.up.weight.grad.abs().sum() > 0 for prompt in network.encoder.cpia)
    assert network.encoder.dsm_patch_embedding.weight.grad.abs().sum() > 0
    assert network.encoder.backbone.training is finetune


@families
def test_a_missing_modality_is_the_same_as_zeros_on_any_grid(name):
    network, (rgb, dsm) = toy(name), inputs(OTHER_GRID)
    assert network(rgb, None).shape == (2, 6, *OTHER_GRID)
    torch.testing.assert_close(network(rgb, None), network(rgb, torch.zeros_like(dsm)))
    torch.testing.assert_close(network(None, dsm), network(torch.zeros_like(rgb), dsm))


@families
def test_other_bands_have_a_patch_embedding_of_their_own(name):
    network = toy(name, image_bands=4)
    assert network(torch.randn(1, 4, 64, 64), None).shape == (1, 6, 64, 64)
    assert network.encoder.image_patch_embedding.weight.requires_grad


@families
def test_a_size_that_is_no_multiple_of_the_patch_is_refused(name):
    with pytest.raises(ValueError, match="60 x 64 px .* multiples of 8"):
        toy(name)(torch.zeros(1, 3, 60, 64), None)


@families
def test_training_gives_the_same_features_twice(name):
    """DINOv3 shakes its grid in training; here four stages, and two runs, see one and the same."""
    backbone = build_backbone(MoBaNetConfig(backbone=name, backbone_args=TOYS[name])).train()
    image, _ = inputs()
    first, second = ([*features_of_every_block(backbone, image)] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def gradient(name, speed):
    """Of the first adapter of a toy network."""
    network = toy(name)
    prepare(network, "float32", speed)
    network(*inputs()).square().mean().backward()
    return network.encoder.cpia[0].up.weight.grad


@families
@pytest.mark.parametrize("switch", ["fused_attention", "checkpoint_blocks"])
def test_switches_for_speed_work_with_every_family(name, switch):
    exact, switched = (gradient(name, dataclasses.replace(OFF, **{switch: on})) for on in (False, True))
    assert (switched - exact).norm() < 1e-4 * exact.norm()


@families
def test_weights_have_timms_names_and_nothing_of_a_classifier(name):
    backbone = build_backbone(MoBaNetConfig(backbone=name, backbone_args=TOYS[name]))
    theirs = timm.create_model(name, num_classes=0, **TOYS[name]).state_dict()
    expected = {f"vit.{key}" for key in theirs if not key.startswith(backbone.ignored_prefixes)}
    assert set(backbone.state_dict()) == expected


@pytest.mark.parametrize(
    ("name", "positions", "prefix", "patch_px", "taps"),
    [
        ("vit_small_patch14_dinov2", "learned", 1, 14, (2, 5, 8, 11)),
        ("vit_large_patch14_reg4_dinov2", "learned", 5, 14, (5, 11, 17, 23)),
        ("vit_small_plus_patch16_dinov3", "rotary", 5, 16, (2, 5, 8, 11)),
        ("vit_huge_plus_patch16_dinov3", "rotary", 5, 16, (7, 15, 23, 31)),
        ("vit_7b_patch16_dinov3", "rotary", 5, 16, (9, 19, 29, 39)),
        ("samvit_base_patch16", "windowed", 0, 16, (2, 5, 8, 11)),
        ("samvit_large_patch16", "windowed", 0, 16, (5, 11, 17, 23)),
        ("samvit_huge_patch16", "windowed", 0, 16, (7, 15, 23, 31)),
    ],
)
def test_released_backbones_have_their_sizes_and_taps(name, positions, prefix, patch_px, taps):
    config = MoBaNetConfig(backbone=name)
    with torch.device("meta"):
        backbone = build_backbone(config)
    assert (backbone.positions, backbone.num_prefix_tokens, backbone.patch_size) == (positions, prefix, patch_px)
    assert config.taps(backbone.depth) == taps
    whole = [index for index, block in enumerate(backbone.vit.blocks) if getattr(block, "window_size", None) == 0]
    assert whole in ([], list(taps))  # SAM's stages end where attention is global


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("vit_nonsense", {}, "no model of this name"),
        ("resnet18", {}, "a ResNet; expected one of VisionTransformer, Eva, VisionTransformerSAM"),
        ("test_vit", {"colour": 3}, "backbone_args"),
        ("test_vit", {"num_heads": 5}, "backbone_args"),
        ("test_vit", {"patch_size": -8}, "backbone_args is {'patch_size': -8}; timm's test_vit rejects it"),
        ("test_vit", {"patch_size": 8, "img_size": 2}, "expected an img_size of patch_size or more"),
        ("test_vit", {"patch_size": 10**9}, "backbone_args.patch_size is 1000000000; expected a number from"),
        ("test_vit", {"patch_size": float("nan")}, "backbone_args.patch_size is nan; expected a number from"),
        ("test_vit", {"pos_embed": "none"}, "no position embedding"),
        ("vit_small_r26_s32_224", {}, "a HybridEmbed before its blocks"),
        ("eva02_tiny_patch14_224", {}, "positions of another kind"),
        ("samvit_base_patch16_224", {"use_rel_pos": False, "use_rope": True}, "positions for a single grid size"),
    ],
)
def test_what_is_of_no_family_is_refused(name, args, words):
    with pytest.raises(ValueError, match=words), torch.device("meta"):
        build_backbone(MoBaNetConfig(backbone=name, backbone_args=args))


def test_every_family_has_toys():
    built = {
        type(build_backbone(MoBaNetConfig(backbone=name, backbone_args=TOYS[name]))) for name in ONE_OF_EACH_FAMILY
    }
    assert built == set(FAMILIES.values())
