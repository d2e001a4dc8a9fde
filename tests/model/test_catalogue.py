from __future__ import annotations

from model import MoBaNetConfig
from model.backbone import build_backbone
from model.catalogue import licence, pretrained_backbones


def test_every_set_of_weights_has_its_own_licence():
    found = {entry.name: entry for entry in pretrained_backbones("vit_small_patch1[46]_dino*")}
    assert {entry.licence for entry in found.values()} == {
        *("apache-2.0", "dinov3-license", "fair-noncommercial-research-license"),
    }
    assert found["vit_small_patch14_dinov2.lvd142m"].positions == "learned"
    dinov3 = found["vit_small_patch16_dinov3.lvd1689m"]
    assert (dinov3.patch_px, dinov3.positions) == (16, "rotary")
    assert list(found.values()) == sorted(found.values(), key=lambda entry: (entry.positions, entry.weights))


def test_a_backbone_has_the_licence_of_the_weights_that_it_downloads():
    names = ("vit_large_patch14_dinov2", "vit_small_patch16_dinov3.lvd1689m", "samvit_base_patch16", "vit_nonsense")
    assert [licence(name) for name in names] == ["apache-2.0", "dinov3-license", "apache-2.0", "unknown"]


def test_counted_weights_are_those_of_the_built_backbone():
    for name in ("test_vit", "vit_tiny_patch16_dinov3_qkvb"):
        backbone = build_backbone(MoBaNetConfig(backbone=name))
        counted = {entry.weights for entry in pretrained_backbones(f"{name}.*")}
        assert counted == {sum(parameter.numel() for parameter in backbone.parameters())}


def test_what_timm_has_but_no_family_takes_is_not_listed():
    assert pretrained_backbones("resnet18*") == pretrained_backbones("eva02_tiny*") == []
