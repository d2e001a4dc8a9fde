from dataclasses import replace

import numpy as np
import pytest

from components.common.data.datasets import dataset
from components.common.data.height_scaling import histogram
from components.common.errors import ParamsError
from components.common.params import from_mapping
from components.preprocess.height_settings import HeightsConfig, as_recorded

CONFIG = HeightsConfig(
    method="above-ground", ground_radius_m=12.0, scale_m=10.0, percentiles=(2.0, 98.0), clip=(-0.5, 2.0)
)
DSM = dataset("potsdam").dsm
NORMALISED = dataset("potsdam", dsm="lastools").dsm


def test_training_range_takes_offset_and_scale_from_the_training_heights():
    training = histogram(np.linspace(100, 200, 10001, dtype=np.float32)[None])
    heights = as_recorded(replace(CONFIG, method="training-range"), DSM, training)
    assert heights.offset_m == pytest.approx(102, abs=0.02)
    assert heights.scale_m == pytest.approx(96, abs=0.02)
    assert (heights.ground_radius_m, heights.percentiles) == (None, None)


def test_per_tile_leaves_offset_and_scale_to_each_tile():
    heights = as_recorded(replace(CONFIG, method="per-tile"), DSM, None)
    assert (heights.offset_m, heights.scale_m, heights.percentiles) == (None, None, (2.0, 98.0))


def test_above_ground_looks_for_ground_unless_the_dsm_is_relative_to_it():
    heights = as_recorded(CONFIG, DSM, None)
    assert (heights.offset_m, heights.scale_m, heights.ground_radius_m) == (0.0, 10.0, 12.0)
    assert heights.relative_to == "datum"
    normalised = as_recorded(CONFIG, NORMALISED, None)
    assert normalised == replace(heights, ground_radius_m=None, relative_to="ground")


GIVEN = {
    "method": "per-tile",
    "ground_radius_m": 12.0,
    "scale_m": 10.0,
    "percentiles": [2.0, 98.0],
    "clip": [-0.5, 2.0],
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scale_m", 0.0),
        ("scale_m", float("nan")),
        ("scale_m", float("inf")),
        ("ground_radius_m", -1.0),
        ("percentiles", [98.0, 2.0]),
        ("percentiles", [0.0, 101.0]),
        ("clip", [2.0, 2.0]),
        ("clip", [float("nan"), 1.0]),
        ("method", "above"),
    ],
)
def test_a_setting_out_of_range_is_named(key, value):
    with pytest.raises(ParamsError, match=rf"^heights\.{key}(\[\d\])? is .*; expected "):
        from_mapping(HeightsConfig, GIVEN | {key: value}, "heights")
