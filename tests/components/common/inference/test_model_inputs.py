"""components/common/inference/model_inputs.py: a model is computed on the inputs of its training only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from components.common.data.store import Store
from components.common.errors import StoreError
from components.common.inference.model_inputs import require_inputs_of
from model import MoBaNetConfig
from tests.components.conftest import toy_facts

MODEL = Path("best.safetensors")
FACTS = toy_facts(MoBaNetConfig(backbone="test_vit"))


def test_a_store_with_the_inputs_of_the_model_passes_whatever_its_data_version(toy_store) -> None:
    require_inputs_of(
        replace(FACTS, data_md5="0" * 32, dataset="other", image_mean=(0.1, 0.1, 0.1)), Store(toy_store), MODEL
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"heights": replace(FACTS.heights, scale_m=20.0)},
            "the settings of the heights are scale_m 10.0, but best.safetensors was trained with scale_m 20.0; score",
        ),
        (
            {"heights": replace(FACTS.heights, method="training-range", offset_m=30.0)},
            "are method above-ground, offset_m 0.0, but best.safetensors was trained with method training-range, "
            "offset_m 30.0; score",
        ),
        (
            {"image_range": (0.0, 2047.0)},
            "the image values that become 0 and 255 are 0.0, 255.0, but best.safetensors was trained with 0.0, 2047.0",
        ),
        (
            {"bands": ("near infrared", "red", "green")},
            "the image bands are red, green, blue, but best.safetensors was trained with near infrared, red, green",
        ),
    ],
)
def test_inputs_prepared_in_another_way_are_refused_with_the_command_that_prepares_them(
    toy_store, changes, sentence
) -> None:
    with pytest.raises(StoreError) as error:
        require_inputs_of(replace(FACTS, **changes), Store(toy_store), MODEL)
    assert str(error.value).startswith(f"{toy_store}: the ") and sentence in str(error.value)
    assert "`mobanet registry rescore`" in str(error.value) and "\n" not in str(error.value)


def test_other_classes_need_another_data_set(toy_store) -> None:
    facts = replace(FACTS, classes=("water", *FACTS.classes[1:]))
    with pytest.raises(StoreError, match="was trained with water, .*; use the data set that the model was trained on"):
        require_inputs_of(facts, Store(toy_store), MODEL)
