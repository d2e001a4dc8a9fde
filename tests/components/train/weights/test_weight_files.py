"""Weight files of training loops: nested mappings and prefixes around the weights of a backbone."""

from __future__ import annotations

import logging

import pytest
import torch
from safetensors.torch import save_file

from components.common.errors import WeightsError
from components.train.weights.backbone_weights import load_backbone_weights
from components.train.weights.weight_files import weight_sets


@pytest.fixture
def donor(toy_network):
    """Backbone weights that differ from a new network's."""
    torch.manual_seed(1)
    return {name: torch.randn_like(t) for name, t in toy_network().encoder.backbone.vit.state_dict().items()}


@pytest.fixture
def student(donor):
    """Weights of the same names and shapes, but other values."""
    return {name: tensor + 1 for name, tensor in donor.items()}


@pytest.fixture
def loaded(toy_network, tmp_path):
    """Save content as a file, load it, and return the backbone's weights."""

    def load(content, name="weights.pth"):
        (save_file if name.endswith("safetensors") else torch.save)(content, tmp_path / name)
        network = toy_network()
        load_backbone_weights(network, str(tmp_path / name))
        return network.encoder.backbone.vit.state_dict()

    return load


def with_prefix(prefix, weights):
    return {prefix + name: tensor for name, tensor in weights.items()}


def equal(found, donor):
    return found.keys() == donor.keys() and all(torch.equal(found[name], donor[name]) for name in donor)


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "module.",
            "_orig_mod.",
            "module._orig_mod.",
            "_orig_mod.module.",
            "backbone.",
            "encoder.",
            "model.backbone.",
        ),
        *(
            "teacher.backbone.",
            "teacher.",
            "student.backbone.",
            "student.",
            "module.student.backbone.",
            "net._orig_mod.vit.",
        ),
    ],
)
def test_every_prefix_of_a_training_loop_is_removed(loaded, donor, prefix):
    head = {"head.mlp.0.weight": torch.ones(2, 2)}
    assert equal(loaded(with_prefix(prefix, donor | head)), donor)
    assert equal(loaded(with_prefix(prefix, donor), "weights.safetensors"), donor)


def test_other_parts_of_the_trained_network_are_left_out(loaded, donor):
    others = {
        "student.head.0.weight": torch.zeros(1),
        "loss.centre": torch.zeros(3),
        "decoder.norm.weight": torch.ones(2),
    }
    assert equal(loaded(with_prefix("student.backbone.", donor) | others), donor)


@pytest.mark.parametrize("part", ["_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"])
def test_a_wrapper_around_every_block_is_removed(loaded, donor, part):
    wrapped = {name.replace("blocks.0.", f"blocks.0.{part}."): tensor for name, tensor in donor.items()}
    assert wrapped.keys() != donor.keys()
    assert equal(loaded(with_prefix("module.", wrapped)), donor)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "ema", "teacher", "student", "net"])
def test_a_nested_mapping_is_searched(loaded, donor, wrapper):
    optimiser = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    assert equal(loaded({wrapper: donor, "optimizer": optimiser, "epoch": 3}), donor)
    assert equal(loaded({wrapper: with_prefix("module.backbone.", donor), "args": {"arch": "vit"}}), donor)


def test_a_checkpoint_of_lightning_is_read(loaded, donor):
    weights = with_prefix("model.backbone.", donor) | {
        "model.head.weight": torch.zeros(3, 64),
        "criterion.w": torch.ones(1),
    }
    content = {
        "state_dict": weights,
        "hyper_parameters": {"lr": 0.1},
        "callbacks": {},
        "pytorch-lightning_version": "2.5",
    }
    assert equal(loaded(content, "last.ckpt"), donor)


@pytest.mark.parametrize(
    ("content", "used"),
    [
        (lambda t, s: {"teacher": t, "student": s}, "teacher"),
        (
            lambda t, s: {"student": with_prefix("module.backbone.", s), "teacher": with_prefix("backbone.", t)},
            "teacher.backbone",
        ),
        (lambda t, s: with_prefix("student.backbone.", s) | with_prefix("teacher.backbone.", t), "teacher.backbone"),
        (lambda t, s: {"state_dict": s, "state_dict_ema": t}, "state_dict_ema"),
        (
            lambda t, s: {"encoder": with_prefix("module.", s), "target_encoder": with_prefix("module.", t)},
            "target_encoder",
        ),
    ],
)
def test_of_a_teacher_and_its_student_the_teacher_is_used_and_the_log_says_so(
    loaded, donor, student, caplog, content, used
):
    caplog.set_level(logging.INFO)
    assert equal(loaded(content(donor, student)), donor)
    assert f"uses {used}; the file also contains" in caplog.text


def test_a_set_that_does_not_fit_is_no_candidate(loaded, donor):
    smaller = {name: tensor[..., :1] for name, tensor in donor.items()}
    assert equal(loaded({"student": donor, "teacher": smaller}), donor)


def test_several_sets_that_fit_are_named_and_none_is_guessed(loaded, donor, student):
    with pytest.raises(WeightsError, match=r"contains 2 sets of weights \(first, second\.backbone\); save one of them"):
        loaded({"first": donor, "second": with_prefix("backbone.", student)})
    with pytest.raises(WeightsError, match=r"contains 2 sets of weights \(teacher, ema\)"):
        loaded({"teacher": donor, "ema": student})


def test_the_first_name_that_does_not_fit_is_named_without_its_prefix(loaded, donor):
    with pytest.raises(WeightsError, match=r"also contains neck\.weight; use weights for test_vit"):
        loaded(with_prefix("module.", donor | {"neck.weight": torch.zeros(1)}))
    donor.pop("norm.weight")
    with pytest.raises(WeightsError, match=r"lacks norm\.weight; use weights for test_vit"):
        loaded({"state_dict": with_prefix("teacher.backbone.", donor)})


def test_a_wrong_shape_is_one_sentence_with_both_shapes(loaded, donor):
    donor["blocks.0.mlp.fc1.weight"] = torch.zeros(3, 64)
    with pytest.raises(WeightsError) as refused:
        loaded(donor)
    assert "blocks.0.mlp.fc1.weight has the shape [3, 64], the network needs [192, 64]" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_with_tensor_and_file(loaded, donor, value):
    donor["blocks.1.norm2.bias"][5] = value
    with pytest.raises(WeightsError, match=r"weights\.pth: blocks\.1\.norm2\.bias contains NaN or infinite values"):
        loaded({"state_dict": with_prefix("module.", donor)})


def test_a_file_without_tensors_is_refused(loaded):
    with pytest.raises(WeightsError, match="contains no tensors; use weights for test_vit"):
        loaded({"epoch": 3, "state_dict": {}})


def test_a_wrapper_is_not_removed_if_two_names_would_become_equal():
    names = {"module.patch_embed.proj.weight": torch.zeros(1), "patch_embed.proj.weight": torch.ones(1)}
    assert [found.place for found in weight_sets(names)] == ["module", ""]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_weights_that_are_no_floating_point_numbers_are_refused_with_tensor_and_type(loaded, donor, dtype, name):
    donor["blocks.1.mlp.fc1.weight"] = (donor["blocks.1.mlp.fc1.weight"] * 100).to(dtype)
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(
        WeightsError, match=rf"blocks\.1\.mlp\.fc1\.weight has the type {kind}, the network needs float32"
    ):
        loaded(with_prefix("module.", donor), name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_are_converted(loaded, donor, dtype):
    converted = {name: tensor.to(dtype) for name, tensor in donor.items()}
    assert equal(loaded(converted), {name: tensor.float() for name, tensor in converted.items()})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("convert", "problem"),
    [
        (lambda tensor: tensor.to_sparse(), "is sparse"),
        (lambda tensor: tensor.to("meta"), "has no values (device meta)"),
        (lambda tensor: tensor.to(torch.float8_e4m3fn), "has the type float8_e4m3fn"),
    ],
)
def test_a_tensor_without_plain_values_is_one_sentence(loaded, donor, convert, problem, tmp_path):
    donor["norm.bias"] = convert(donor["norm.bias"])
    with pytest.raises(WeightsError) as refused:
        loaded(donor)
    assert str(refused.value) == f"{tmp_path}/weights.pth: norm.bias {problem}; save it as a dense float32 tensor"


def test_a_mapping_that_contains_itself_is_searched_once(loaded, donor):
    content = {"model": donor}
    content["trainer"] = {"state": content, "weights": donor}
    assert equal(loaded(content), donor)
