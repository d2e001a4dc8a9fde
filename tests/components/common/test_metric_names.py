"""components/common/metric_names.py: every name becomes one that MLflow accepts."""

import string

import pytest
from mlflow.utils.validation import _validate_metric_name, _validate_tag_name

from components.common.metric_names import image_name, metric_name


@pytest.mark.parametrize("name", ["loss", "val/miou_rgb+dsm".replace("+", "-"), "test/iou/low vegetation", "Straße: 1"])
def test_a_name_that_mlflow_accepts_stays(name) -> None:
    assert metric_name(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("iou/trees & shrubs", "iou/trees _ shrubs"),
        ("iou/trees (deciduous)", "iou/trees _deciduous_"),
        ("iou//", "iou/_/_"),
        ("../iou/.", "_/iou/_"),
        ("x" * 300, "x" * 250),
    ],
)
def test_other_characters_become_underscores(name, expected) -> None:
    assert metric_name(name) == expected


@pytest.mark.parametrize("character", string.punctuation + "äß中\u00a0\t\n😀")
def test_mlflow_accepts_a_name_with_any_character(character) -> None:
    for name in (f"iou/{character}", f"{character}a", f"a{character}"):
        _validate_metric_name(metric_name(name))
        _validate_tag_name(metric_name(name))
        assert image_name(name).isascii() and ":" not in image_name(name)
