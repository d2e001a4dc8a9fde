"""The training recipe: which weights are decayed, and that every combination of modules trains."""

from __future__ import annotations

import itertools
from fnmatch import fnmatch

import pytest
import torch
from timm.layers import RmsNorm
from torch import nn

from components.train import batches
from components.train.batches import Inputs
from components.train.copies import make_copies
from components.train.optim import make_optimizer, take_step
from components.train.ranks.distributed import single_rank
from components.train.step import run
from model.gradients import without_gradient
from model.reference import PAIRED, UNUSED, from_reference, reference_name_to_ours
from model.training_loss import TrainingLoss
from tests.components.train.conftest import TRAIN
from tests.model.test_reference import SIZES, reference_weights
from tests.model.toys import OFF, TOYS, toy

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, RmsNorm)
DECAYED = {  # weights that belong to no linear layer, convolution or norm
    "encoder.cpia.*.gamma_MC": False,
    "encoder.cpia.*.beta_MC": False,
    "encoder.backbone.vit.cls_token": False,
    "encoder.backbone.vit.reg_token": False,
    "encoder.backbone.vit.pos_embed": False,
    "encoder.backbone.vit.blocks.*.gamma": False,  # LayerScale
    "encoder.backbone.vit.blocks.*.gamma_?": False,
    "encoder.backbone.vit.blocks.*.?_bias": False,
    "encoder.backbone.vit.blocks.*.rel_pos_?": True,  # timm decays them, as ViTDet does
}


def decayed(network, config):
    """Trainable weight -> whether AdamW decays it."""
    groups = make_optimizer(network, config).param_groups
    decay_of = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert set(decay_of.values()) == {0.0, 0.05} and len(decay_of) == sum(len(group["params"]) for group in groups)
    return {name: decay_of[id(p)] > 0 for name, p in network.named_parameters() if p.requires_grad}


def expected_by_kind(network):
    """Trainable weight -> whether a weight of this kind is decayed: matrices and kernels of layers are."""
    for prefix, module in network.named_modules():
        for name, parameter in module.named_parameters(prefix, recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, nn.Linear | nn.Conv2d):
                yield name, name.endswith("weight")
            elif isinstance(module, NORMS):
                yield name, False
            else:
                yield name, next(value for pattern, value in DECAYED.items() if fnmatch(name, pattern))


@pytest.mark.parametrize("finetune", [False, True])
@pytest.mark.parametrize("backbone", TOYS)
def test_weights_are_decayed_by_what_they_are(train_config, backbone, finetune):
    network = toy(backbone, finetune=finetune, cpia="adapter")
    assert decayed(network, train_config()) == dict(expected_by_kind(network))


def test_a_reference_checkpoint_has_the_groups_of_the_released_code(train_config):
    """The released code decays its trainable tensors of two or more dimensions; its CPIA has one scale per modality."""
    released = reference_weights()
    found = decayed(from_reference(released, **SIZES), train_config())
    expected = {}
    for name, tensor in released.items():
        if match := PAIRED.fullmatch(name):
            expected[f"encoder.cpia.{match[1]}.{match[2]}_MC"] = tensor.ndim > 1
        elif name != UNUSED:
            expected[reference_name_to_ours(name)] = tensor.ndim > 1
    assert found == {name: expected[name] for name in found}


def test_scales_of_the_prompt_keep_their_size_without_a_gradient(train_config, toy_network):
    network = toy_network()
    before = {name: p.clone() for name, p in network.named_parameters()}
    optimizer = make_optimizer(network, train_config(weight_decay=0.5))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    shrunk = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert "encoder.cpia.0.up.weight" in shrunk and "encoder.dsm_patch_embedding.weight" in shrunk
    assert not any("gamma" in name or "beta" in name for name in shrunk)


@pytest.mark.parametrize(("modalities", "masked"), [(("rgb", "dsm"), True), (("rgb",), False), (("dsm",), False)])
def test_a_training_masks_two_modalities_and_never_the_only_one(
    train_config, model_params, runtime, toy_store, tmp_path, monkeypatch, modalities, masked
):
    steps, mask = [], batches.mask_modalities
    monkeypatch.setattr(batches, "mask_modalities", lambda *given, **more: steps.append(1) or mask(*given, **more))
    config = train_config(steps=2, warmup_steps=1)
    run(
        config, model_params(modalities=modalities), runtime(), toy_store, tmp_path / "models", tmp_path / "checkpoints"
    )
    assert len(steps) == (2 if masked else 0)


MODALITIES = [("rgb", "dsm"), ("rgb",), ("dsm",)]
MODULES = list(itertools.product((1, 3, 4), ("residual", "adapter", "none"), (True, False), (True, False)))


@pytest.mark.parametrize("finetune", [False, True])
@pytest.mark.parametrize("modalities", MODALITIES)
@pytest.mark.parametrize(("image_bands", "cpia", "dgfm", "aux_heads"), MODULES)
def test_every_combination_trains_a_step(
    toy_network, train_config, modalities, finetune, image_bands, cpia, dgfm, aux_heads
):
    network = toy_network(
        modalities=modalities, finetune=finetune, image_bands=image_bands, cpia=cpia, dgfm=dgfm, aux_heads=aux_heads
    ).train()
    config, loss = train_config(warmup_steps=0), TrainingLoss(network, "float32", OFF)
    assert without_gradient(network, loss, config.aux_weight) == []
    generator = torch.Generator().manual_seed(0)
    rgb, dsm = (torch.randn(2, bands, 32, 32, generator=generator) for bands in (image_bands, 1))
    inputs = Inputs(rgb, dsm, torch.randint(0, 6, (2, 32, 32), generator=generator))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    take_step(loss, make_optimizer(network, config), inputs, 1, config, single_rank(torch.device("cpu")))
    for name, parameter in network.named_parameters():
        assert parameter.isfinite().all(), name
        assert parameter.requires_grad == (parameter.grad is not None), name
        assert parameter.requires_grad or torch.equal(parameter, before[name]), name
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert {"decoder.classifier.1.weight", "encoder.projections.0.weight"} <= moved
    assert any(name.startswith("encoder.backbone.vit.blocks.") for name in moved) == finetune


@pytest.mark.parametrize("missing", ["zero", "excluded"])
@pytest.mark.parametrize(("image_bands", "cpia", "dgfm", "aux_heads"), MODULES)
def test_every_combination_trains_a_step_with_copies(
    toy_network, train_config, missing, image_bands, cpia, dgfm, aux_heads
):
    network = toy_network(
        missing=missing, batch_norm="per-condition", image_bands=image_bands, cpia=cpia, dgfm=dgfm, aux_heads=aux_heads
    ).train()
    config = train_config(warmup_steps=0, masking=TRAIN["masking"] | {"paired": 2.0, "distillation": 0.5})
    loss, present = TrainingLoss(network, "float32", OFF, distillation=0.5), torch.tensor([True, True])
    generator = torch.Generator().manual_seed(0)
    rgb, dsm = (torch.randn(2, bands, 32, 32, generator=generator) for bands in (image_bands, 1))
    target = torch.randint(0, 6, (2, 32, 32), generator=generator)
    inputs = Inputs(rgb, dsm, target, make_copies(rgb, dsm, target, present, present, config))
    take_step(loss, make_optimizer(network, config), inputs, 1, config, single_rank(torch.device("cpu")))
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
        assert parameter.isfinite().all(), name
    counts = {int(count) for name, count in network.decoder.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {1}
