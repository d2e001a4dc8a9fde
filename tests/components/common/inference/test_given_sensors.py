"""components/common/inference/given_sensors.py: a sensor without any value is None."""

from __future__ import annotations

import math

import pytest
import torch

from components.common.inference.given_sensors import both_given, measured, runs_by_condition
from model import MoBaNetConfig

IMAGE, DSM = torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
NO_IMAGE, NO_DSM = IMAGE * math.nan, DSM * math.nan
HOLED = DSM.masked_fill(torch.arange(8) < 7, math.nan)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((IMAGE, DSM), (IMAGE, DSM)),
        ((IMAGE, HOLED), (IMAGE, HOLED)),
        ((IMAGE, NO_DSM), (IMAGE, None)),
        ((NO_IMAGE, HOLED), (None, HOLED)),
        ((IMAGE, None), (IMAGE, None)),
        ((None, DSM), (None, DSM)),
        ((NO_IMAGE, NO_DSM), (NO_IMAGE, NO_DSM)),
        ((None, NO_DSM), (None, NO_DSM)),
    ],
)
def test_a_sensor_without_a_value_is_none_unless_no_sensor_has_one(given, expected):
    found = measured(*given, MoBaNetConfig())
    assert all(one is other for one, other in zip(found, expected, strict=True))


def test_a_sensor_that_the_network_does_not_use_is_none():
    assert measured(IMAGE, DSM, MoBaNetConfig(modalities=("rgb",))) == (IMAGE, None)
    found = measured(IMAGE, NO_DSM, MoBaNetConfig(modalities=("dsm",)))
    assert found[0] is None and found[1] is NO_DSM


def test_none_becomes_nan_of_the_same_batch_and_size():
    assert both_given(IMAGE, DSM, 3) == (IMAGE, DSM)
    image, dsm = both_given(None, DSM, 4)
    assert image.shape == (1, 4, 8, 8) and image.isnan().all() and dsm is DSM
    image, dsm = both_given(IMAGE, None, 3)
    assert dsm.shape == (1, 1, 8, 8) and dsm.isnan().all() and image is IMAGE
    with pytest.raises(ValueError, match="image and DSM are both missing; give at least one"):
        both_given(None, None, 3)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"missing": "excluded"}, True),
        ({"batch_norm": "per-condition"}, True),
        ({"missing": "excluded", "batch_norm": "per-condition", "modalities": ("rgb",)}, False),
    ],
)
def test_a_network_of_two_sensors_can_depend_on_the_condition(changes, expected):
    assert runs_by_condition(MoBaNetConfig(**changes)) is expected
