from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F

from model import MoBaNetConfig
from model.backbone import build_backbone, resample_positions

CASES = {  # class token with a position, registers without, neither
    "vit_tiny_patch16_224": {"patch_size": 8, "img_size": 32},
    "vit_small_patch14_reg4_dinov2": {"embed_dim": 64, "depth": 4, "num_heads": 2, "img_size": 56},
    "vit_medium_patch16_gap_240": {"embed_dim": 64, "depth": 4, "num_heads": 2, "img_size": 64},
}


@pytest.mark.parametrize(("name", "args"), CASES.items(), ids=list(CASES))
def test_tokens_of_every_block_equal_timms_own(name, args):
    torch.manual_seed(0)
    backbone = build_backbone(MoBaNetConfig(backbone=name, backbone_args=args)).eval()
    image = torch.randn(2, 3, args["img_size"], args["img_size"])
    tokens, ours = backbone.tokens(backbone.patch_embedding(image)), []
    for index in range(backbone.depth):
        tokens = backbone.run(tokens, index, index)
        ours.append(backbone.norm(tokens)[:, backbone.num_prefix_tokens :])
    theirs = backbone.vit.forward_intermediates(image, norm=True, output_fmt="NLC", intermediates_only=True)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("name", [n for n in timm.list_models("vit_*dinov2*") if "giant" not in n])
def test_every_dinov2_can_be_built(name):
    with torch.device("meta"):
        backbone = build_backbone(MoBaNetConfig(backbone=name))
    assert backbone.patch_size == 14
    assert backbone.num_prefix_tokens == (5 if "reg4" in name else 1)


def test_positions_of_the_trained_grid_are_untouched():
    positions = torch.randn(1, 16, 8)
    assert resample_positions(positions, (4, 4), (4, 4)) is positions


def test_positions_of_a_non_square_grid_follow_the_dinov2_rule():
    positions = torch.randn(1, 16, 8)
    grid = positions.reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
    scale = ((6 + 0.1) / 4, (9 + 0.1) / 4)
    expected = F.interpolate(grid, scale_factor=scale, mode="bicubic").permute(0, 2, 3, 1).reshape(1, 54, 8)
    torch.testing.assert_close(resample_positions(positions, (4, 4), (6, 9)), expected)


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("vit_nonsense", {}, "no model of this name"),
        ("resnet18", {}, "a ResNet; expected a plain timm VisionTransformer"),
        ("test_vit", {"colour": 3}, "backbone_args"),
    ],
)
def test_what_is_not_a_plain_vit_is_refused(name, args, words):
    with pytest.raises(ValueError, match=words):
        build_backbone(MoBaNetConfig(backbone=name, backbone_args=args))
