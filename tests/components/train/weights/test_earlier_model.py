"""Start from an earlier model: what fits is taken, what does not is listed, nothing is guessed."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from components.common.errors import WeightsError
from components.common.files import digest
from components.common.inference.modelfile import InitialWeights, save_model
from components.train.weights.earlier_model import Names, load_earlier_model
from model.encoder import for_bands
from tests.components.conftest import toy_facts

CLASSES = ("impervious", "building", "low vegetation", "tree", "car", "clutter")
RGB = ("red", "green", "blue")
LICENCE = "Apache-2.0 of the earlier model"


@pytest.fixture
def earlier(toy_network, tmp_path):
    """Write an earlier model whose weights all differ from a new network's; returns its file and its weights."""

    def write(classes=CLASSES, bands=RGB, **changes):
        network = toy_network(num_classes=len(classes), image_bands=len(bands), **changes)
        with torch.no_grad():
            for tensor in network.state_dict().values():
                tensor.copy_(torch.randn(tensor.shape).abs() + 1)
        start = InitialWeights("hub", "0" * 64, LICENCE)
        facts = replace(toy_facts(network.config), classes=classes, bands=bands, initial_weights=start)
        facts = replace(facts, image_mean=(0.5,) * len(bands), image_std=(0.25,) * len(bands))
        save_model(tmp_path / "earlier.safetensors", network, facts)
        return tmp_path / "earlier.safetensors", network.state_dict()

    return write


@pytest.fixture
def start(toy_network):
    """A new network filled from an earlier model; returns its weights before and after, and the record."""

    def fill(file, classes=CLASSES, bands=RGB, **changes):
        network = toy_network(num_classes=len(classes), image_bands=len(bands), **changes)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        record = load_earlier_model(
            network, Names(classes, bands, network.config.modalities), file, "models:/mobanet/3"
        )
        return before, network.state_dict(), record

    return fill


def same(left, right, *beginnings):
    names = [name for name in left if name.startswith(beginnings or ("",))]
    return bool(names) and all(torch.equal(left[name], right[name]) for name in names)


def test_a_network_of_the_same_kind_gets_every_weight(earlier, start):
    file, weights = earlier()
    _, filled, record = start(file)
    assert same(filled, weights)
    assert set(record.parts.values()) == {"complete"}
    assert record == InitialWeights("models:/mobanet/3", digest(file), LICENCE, record.parts)


@pytest.mark.parametrize("finetune", [False, True])
def test_the_backbone_of_the_earlier_model_is_used_frozen_or_not(earlier, start, finetune):
    file, weights = earlier(finetune=True)
    _, filled, _ = start(file, finetune=finetune)
    assert same(filled, weights, "encoder.backbone.")


def test_classes_of_the_same_name_keep_their_rows_and_new_ones_start_at_random(earlier, start, caplog):
    caplog.set_level(logging.INFO)
    file, weights = earlier()
    classes = ("car", "water", "building")
    before, filled, record = start(file, classes=classes)
    for name in ("decoder.classifier.1.weight", "aux.rgb.classifier.weight", "aux.dsm.classifier.weight"):
        assert torch.equal(filled[name][0], weights[name][CLASSES.index("car")])
        assert torch.equal(filled[name][1], before[name][1])
        assert torch.equal(filled[name][2], weights[name][CLASSES.index("building")])
    assert same(filled, weights, "encoder.", "decoder.pyramid.", "aux.rgb.block.")
    assert record.parts["classifier"] == "32 of 48 values"
    assert "classes: new water" in caplog.text
    assert "classes: no longer used clutter, impervious, low vegetation, tree" in caplog.text


def test_more_bands_start_from_the_patch_embedding_of_the_earlier_backbone(earlier, start):
    file, weights = earlier()
    _, filled, record = start(file, bands=(*RGB, "near infrared"))
    embedding = torch.nn.Conv2d(3, 64, 8, 8)
    embedding.weight.data = weights["encoder.backbone.vit.patch_embed.proj.weight"]
    assert torch.equal(filled["encoder.image_patch_embedding.weight"], for_bands(embedding, 4).weight)
    assert record.parts["image_patch_embedding"] == "new"


def test_bands_of_the_same_name_keep_their_weights(earlier, start):
    file, weights = earlier(bands=(*RGB, "near infrared"))
    name = "encoder.image_patch_embedding.weight"
    _, filled, _ = start(file, bands=("near infrared", "red", "green", "blue"))
    assert torch.equal(filled[name], weights[name][:, [3, 0, 1, 2]])
    _, filled, record = start(file, bands=("near infrared", "red"))
    assert torch.equal(filled[name], weights[name][:, [3, 0]])
    _, filled, record = start(file)
    assert name not in filled
    assert record.parts["image_patch_embedding"] == "not in this network, 2 tensors of the earlier model unused"


def test_a_single_sensor_takes_its_stream_of_a_fused_model(earlier, start):
    file, weights = earlier()
    _, filled, record = start(file, modalities=("dsm",))
    assert same(filled, weights, "encoder.dsm_patch_embedding.", "decoder.", "aux.dsm.", "encoder.norms.")
    width = filled["encoder.cpia.0.mix.weight"].shape[0]
    for old, new in (("down.1.weight", "down.0.weight"), ("down.1.bias", "down.0.bias")):
        assert torch.equal(filled[f"encoder.cpia.0.{new}"], weights[f"encoder.cpia.0.{old}"])
    assert torch.equal(filled["encoder.cpia.0.mix.weight"], weights["encoder.cpia.0.mix.weight"][:, width:])
    assert torch.equal(filled["encoder.cpia.0.gamma_MC"], weights["encoder.cpia.0.gamma_MC"][1:])
    assert record.parts["dgfm"].startswith("not in this network")


def test_fusion_starts_from_a_single_sensor_and_the_other_stream_is_new(earlier, start):
    file, weights = earlier(modalities=("rgb",))
    before, filled, record = start(file)
    assert same(filled, before, "encoder.dgfm.", "aux.dsm.", "encoder.cpia.0.down.1.")
    assert same(filled, weights, "encoder.norms.", "aux.rgb.")
    assert torch.equal(filled["encoder.cpia.0.down.0.weight"], weights["encoder.cpia.0.down.0.weight"])
    assert torch.equal(filled["encoder.cpia.2.gamma_MC"][0], weights["encoder.cpia.2.gamma_MC"][0])
    assert torch.equal(filled["encoder.cpia.2.gamma_MC"][1], before["encoder.cpia.2.gamma_MC"][1])
    assert torch.equal(
        filled["encoder.dsm_patch_embedding.weight"], weights["encoder.backbone.vit.patch_embed.proj.weight"]
    )
    assert record.parts["dgfm"] == "new"


def test_modalities_in_another_order_are_matched_by_name(earlier, start):
    file, weights = earlier()
    _, filled, record = start(file, modalities=("dsm", "rgb"))
    assert torch.equal(filled["encoder.cpia.1.beta_MC"], weights["encoder.cpia.1.beta_MC"].flip(0))
    assert torch.equal(filled["encoder.cpia.1.down.0.weight"], weights["encoder.cpia.1.down.1.weight"])
    assert set(record.parts.values()) == {"complete"}


def test_modules_of_another_size_keep_their_new_weights_and_are_listed(earlier, start, caplog):
    caplog.set_level(logging.INFO)
    file, weights = earlier(cpia="none")
    before, filled, record = start(file, decoder_channels=8, aux_heads=False)
    assert same(filled, before, "encoder.cpia.", "decoder.classifier.")
    assert same(filled, weights, "encoder.backbone.", "encoder.dgfm.", "encoder.projections.")
    assert record.parts["cpia"] == "new"
    assert "aux: not in this network, " in caplog.text
    assert f"dgfm: {record.parts['dgfm']}" in caplog.text


def test_a_package_without_auxiliary_heads_is_taken(earlier, start):
    file, weights = earlier(aux_heads=False)
    before, filled, record = start(file)
    assert same(filled, before, "aux.") and same(filled, weights, "decoder.")
    assert record.parts["aux"] == "new"


def test_another_backbone_is_refused_with_both_names(earlier, start):
    file, _ = earlier()
    args = {"embed_dim": 64, "depth": 4, "num_heads": 2, "patch_size": 8, "img_size": 64}
    with pytest.raises(WeightsError, match="the backbone is test_vit, but model.backbone is vit_tiny_patch16_224"):
        start(file, backbone="vit_tiny_patch16_224", backbone_args=args)


def test_other_backbone_arguments_are_refused_with_those_of_the_earlier_model(earlier, start):
    file, _ = earlier()
    args = {"patch_size": 8, "img_size": 64, "embed_dim": 32}
    with pytest.raises(WeightsError, match=r"has the shape .* set model\.backbone_args to .*'patch_size': 8"):
        start(file, backbone_args=args)


def test_a_model_with_values_that_are_not_finite_is_refused(earlier, start, tmp_path):
    file, _ = earlier()
    content = file.read_bytes()
    (tmp_path / "nan.safetensors").write_bytes(content[:-4] + b"\x00\x00\xc0\x7f")
    with pytest.raises(WeightsError, match=r"NaN or infinite.*; set model\.init to a file") as refused:
        start(tmp_path / "nan.safetensors")
    assert "learning_rate" not in str(refused.value)


def test_another_patch_size_is_listed_as_resampled(earlier, start, caplog):
    caplog.set_level(logging.INFO)
    file, _ = earlier()
    _, _, record = start(file, backbone_args={"patch_size": 16, "img_size": 64})
    assert record.parts["backbone"] == "complete, 2 tensors resampled to another size"
    assert "  backbone: complete, 2 tensors resampled to another size" in caplog.messages


def test_a_file_of_weights_is_refused_with_the_key_that_takes_it(start, tmp_path, toy_network):
    torch.save(toy_network().state_dict(), tmp_path / "vit.pth")
    with pytest.raises(WeightsError, match=r"not a readable model .*; pretrained weights .* belong in model\.weights"):
        start(tmp_path / "vit.pth")
