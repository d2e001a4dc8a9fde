from __future__ import annotations

import dataclasses

import pytest
import torch

from components.common import params
from components.common.errors import ParamsError
from components.common.params import from_mapping
from components.train.batches import step_seed
from components.train.config import ModelParams
from model import config
from model.config import RESERVED


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "train.steps is 0; expected a whole number from 1 to 10000000"),
        ({"steps": 2, "warmup_steps": 2}, "train.warmup_steps is 2; expected fewer than train.steps, which is 2"),
        ({"batch_size": 1}, "train.batch_size is 1; expected a whole number from 2 to 65536"),
        ({"learning_rate": 0.0}, "train.learning_rate is 0.0; expected a number above 0"),
        ({"learning_rate": float("nan")}, "train.learning_rate is nan; expected a finite number above 0"),
        ({"seed": -1}, "train.seed is -1; expected a whole number of 0 or more"),
        ({"betas": [0.9, 1.0]}, r"train.betas\[1\] is 1.0; expected a number from 0 to below 1"),
        ({"labels": "both"}, "train.labels is 'both' .*; expected full or eroded"),
        ({"steps": "many"}, "train.steps is 'many' .*; expected a whole number"),
        ({"masking": {"share": 0.5}}, "train.masking.full_share is missing"),
        ({"crop_px": 32}, "train.validation.stride_px is 64; expected train.crop_px or less, which is 32"),
        ({"momentum": 0.9}, "train.momentum is unknown"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(train_config, changes, words):
    with pytest.raises(ParamsError, match=words):
        train_config(**changes)


def test_class_count_and_bands_come_from_the_data(model_params):
    network = model_params().network(11, 4)
    assert (network.num_classes, network.image_bands) == (11, 4)


@pytest.mark.parametrize("key", ["num_classes", "image_bands"])
def test_what_the_data_decide_is_no_key_of_the_section_model(key):
    given = {"weights": "none", "init": None, key: 4}
    with pytest.raises(ParamsError, match=f"model.{key} is unknown"):
        from_mapping(ModelParams, given, "model")


def test_a_seed_of_any_size_is_accepted_and_gives_every_step_its_own_numbers(train_config):
    config = train_config(seed=2**64 + 5)
    assert config.seed == 2**64 + 5
    drawn = [torch.rand(1, generator=torch.Generator().manual_seed(step_seed(config, step))) for step in (1, 2)]
    assert drawn[0] != drawn[1]
    assert step_seed(train_config(seed=3), 4) == 3_000_000_025


def test_the_strict_settings_of_model_and_components_are_equal():
    assert params.STRICT == config.STRICT


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rate": 1e300}, r"train.learning_rate is 1e\+300; expected a number above 0 and up to 1e\+30"),
        ({"min_learning_rate": 1.0}, "train.min_learning_rate is 1.0; expected train.learning_rate or less"),
        ({"max_gradient_norm": 1e-30}, "train.max_gradient_norm is 1e-30; expected a number from 0.0001"),
        ({"weight_decay": 1e300}, "train.weight_decay is 1e"),
    ],
)
def test_a_number_with_which_nothing_would_be_learned_is_an_error(train_config, changes, sentence):
    with pytest.raises(ParamsError, match=sentence):
        train_config(**changes)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_an_argument_of_timm_that_another_parameter_decides_is_an_error(name, model_params):
    with pytest.raises(ParamsError, match=rf"model.backbone_args.{name} is 1; remove it: "):
        from_mapping(ModelParams, dataclasses.asdict(model_params()) | {"backbone_args": {name: 1}}, "model")
