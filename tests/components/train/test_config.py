from __future__ import annotations

import pytest

from components.common.errors import ParamsError


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "train.steps is 0; expected 1 or more"),
        ({"batch_size": 1}, "train.batch_size is 1; expected 2 or more"),
        ({"learning_rate": 0.0}, "train.learning_rate is 0.0"),
        ({"betas": [0.9, 1.0]}, "train.betas is"),
        ({"labels": "both"}, "train.labels is 'both' .*; expected full or eroded"),
        ({"steps": "many"}, "train.steps is 'many' .*; expected a whole number"),
        ({"masking": {"share": 0.5}}, "train.masking.full_share is missing"),
        ({"crop_px": 32}, "train.validation.stride_px is 64"),
        ({"momentum": 0.9}, "train.momentum is unknown"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(train_config, changes, words):
    with pytest.raises(ParamsError, match=words):
        train_config(**changes)


def test_class_count_and_bands_come_from_the_data(model_params):
    network = model_params().network(11, 4)
    assert (network.num_classes, network.image_bands) == (11, 4)
