from __future__ import annotations

import pytest

from model import MoBaNetConfig


def test_taps_of_the_released_depths():
    config = MoBaNetConfig()
    assert config.taps(12) == (2, 5, 8, 11)
    assert config.taps(24) == (5, 11, 17, 23)
    assert config.taps(40) == (9, 19, 29, 39)


def test_taps_of_another_depth_are_spread_to_the_last_block():
    assert MoBaNetConfig().taps(6) == (0, 2, 3, 5)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"modalities": ()}, "modalities"),
        ({"modalities": ("rgb", "rgb")}, "modalities"),
        ({"cpia_ratio": 0.0}, "cpia_ratio"),
        ({"decoder_channels": 0}, "decoder_channels"),
        ({"num_classes": 1}, "num_classes"),
        ({"tap_indices": (1, 2, 3)}, "tap_indices"),
        ({"tap_indices": (3, 2, 4, 5)}, "tap_indices"),
    ],
)
def test_a_wrong_value_is_refused_by_name(changes, name):
    with pytest.raises(ValueError, match=rf"\n( +Value error, )?{name}\b"):
        MoBaNetConfig(**changes)


def test_a_tap_beyond_the_last_block_is_refused():
    with pytest.raises(ValueError, match="tap_indices .* blocks 0 to 11"):
        MoBaNetConfig(tap_indices=(2, 5, 8, 12)).taps(12)
