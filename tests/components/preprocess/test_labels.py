from pathlib import Path

import numpy as np
import pytest

from components.common.errors import DataError
from components.common.isprs import IGNORE, palette
from components.preprocess.labels import decode, require_known


def test_every_palette_colour_becomes_its_class_and_black_is_ignored():
    rgb_HW3 = np.concatenate([palette(), [[0, 0, 0]]]).astype(np.uint8)[None]
    decoded = decode(rgb_HW3)
    assert decoded.y_HW.tolist() == [[0, 1, 2, 3, 4, 5, IGNORE]]
    assert decoded.y_HW.dtype == np.uint8
    assert (decoded.snapped_px, decoded.unknown_px) == (0, 0)


def test_magenta_becomes_ignore_never_a_class():
    rgb_HW3 = np.full((8, 8, 3), 255, np.uint8)  # impervious everywhere ...
    rgb_HW3[3, 4] = 200, 10, 200  # ... but the one corner of the colour cube without a class
    decoded = decode(rgb_HW3)
    assert (decoded.y_HW[3, 4], decoded.unknown_px, decoded.snapped_px) == (IGNORE, 1, 0)
    assert np.count_nonzero(decoded.y_HW == 0) == 63


def test_cars_of_6_7_are_cars():
    decoded = decode(np.full((2, 3, 3), (252, 255, 0), np.uint8))
    assert (decoded.y_HW == 4).all()
    assert decoded.snapped_px == 6


def test_the_threshold_lies_between_127_and_128():
    decoded = decode(np.array([[[127, 127, 128], [128, 127, 127], [127, 127, 127], [128, 128, 128]]], np.uint8))
    assert decoded.y_HW.tolist() == [[1, 5, IGNORE, 0]]
    assert (decoded.snapped_px, decoded.unknown_px) == (4, 0)


@pytest.mark.parametrize("nudge", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_one_channel_off_by_one_counts_as_snapped(nudge):
    rgb_HW3 = np.zeros((4, 4, 3), np.uint8)
    rgb_HW3[2, 2] = nudge
    decoded = decode(rgb_HW3)
    assert (decoded.snapped_px, decoded.y_HW[2, 2]) == (1, IGNORE)


def test_a_lossy_picture_decodes_to_the_classes_it_was_made_of():
    y_HW = np.random.default_rng(0).integers(0, 6, (50, 60))
    noise = np.random.default_rng(1).integers(-100, 101, (50, 60, 3))
    decoded = decode((palette()[y_HW].astype(int) + noise).clip(0, 255).astype(np.uint8))
    np.testing.assert_array_equal(decoded.y_HW, y_HW)
    exact_px = decode(palette()[y_HW]).snapped_px
    assert (exact_px, decoded.snapped_px > 0.8 * y_HW.size) == (0, True)


def with_unknown(count):
    rgb_HW3 = np.zeros((10, 10, 3), np.uint8)
    rgb_HW3.reshape(-1, 3)[34 : 34 + count] = 255, 3, 254
    return rgb_HW3


def test_unknown_colours_up_to_the_limit_pass():
    rgb_HW3 = with_unknown(5)
    require_known(Path("a.tif"), rgb_HW3, decode(rgb_HW3), 0.05)


def test_unknown_colours_beyond_the_limit_show_file_share_colour_place_and_remedy():
    rgb_HW3 = with_unknown(6)
    with pytest.raises(DataError) as caught:
        require_known(Path("a.tif"), rgb_HW3, decode(rgb_HW3), 0.05)
    assert str(caught.value) == (
        "a.tif: 6 % of the pixels have a colour of no class, for example RGB 255, 3, 254 at row 3, column 4; at most "
        "5 % are ignored: mend the file's colours or raise preprocess.max_unknown_share"
    )
