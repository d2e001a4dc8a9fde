"""components/common/metric_names.py: every name becomes one that MLflow accepts."""

import random
import string

import pytest
from mlflow.utils.validation import _validate_metric_name, _validate_tag_name

from components.common.metric_names import image_name, metric_name, original_name


@pytest.mark.parametrize("name", ["loss", "val/miou_rgb+dsm".replace("+", "-"), "test/iou/low vegetation", "Straße: 1"])
def test_a_name_that_mlflow_accepts_stays(name) -> None:
    assert metric_name(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("iou/trees & shrubs", "iou/trees _x26_ shrubs"),
        ("iou/trees (deciduous)", "iou/trees _x28_deciduous_x29_"),
        ("iou//", "iou/_x2F_"),
        ("../iou/.", "_x2E__x2E_/iou/_x2E_"),
        ("a_x28_", "a_x5F_x28_"),
    ],
)
def test_other_characters_become_their_code(name, expected) -> None:
    assert metric_name(name) == expected
    assert original_name(expected) == name


def test_random_names_stay_different_and_can_be_decoded() -> None:
    draw = random.Random(0)
    names = {"".join(draw.choices("_x258F(/. ä", k=draw.randint(1, 12))) for _ in range(3000)}
    for encode in (metric_name, image_name):
        assert all(original_name(encode(name)) == name for name in names)
    for name in names:
        _validate_metric_name(metric_name(name))


def test_names_that_are_too_long_for_mlflow_stay_different() -> None:
    first, second = metric_name("x" * 300 + "a"), metric_name("x" * 300 + "b")
    assert first != second and len(first) == len(second) == 250


@pytest.mark.parametrize("character", string.punctuation + "äß中\u00a0\t\n😀")
def test_mlflow_accepts_a_name_with_any_character(character) -> None:
    for name in (f"iou/{character}", f"{character}a", f"a{character}"):
        _validate_metric_name(metric_name(name))
        _validate_tag_name(metric_name(name))
        assert image_name(name).isascii() and ":" not in image_name(name)
