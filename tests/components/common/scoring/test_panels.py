"""components/common/scoring/panels.py: colours, averages and pixel positions."""

import numpy as np
import pytest

from components.common.scoring.panels import (
    MISSING,
    class_picture,
    gate_picture,
    height_picture,
    shrink_classes,
    shrink_mean,
    shrink_picture,
    strip,
)


def test_classes_take_their_palette_colour_and_ignored_is_black() -> None:
    picture = class_picture(np.array([[0, 1, 255]], np.uint8), [(255, 255, 255), (0, 0, 255)])
    assert picture.tolist() == [[[255, 255, 255], [0, 0, 255], [0, 0, 0]]]


def test_higher_is_brighter_and_missing_has_a_colour_of_its_own() -> None:
    picture = height_picture(np.array([[0.0, 1.0, 2.0, 3.0, np.nan]], np.float32), limits=(0.0, 3.0))
    brightness = picture.astype(int).sum(axis=2)[0]
    assert (np.diff(brightness[:4]) > 0).all()
    assert tuple(picture[0, 4]) == MISSING


@pytest.mark.parametrize("heights", [[[np.nan, np.nan]], [[4.0, 4.0]]])
def test_heights_without_a_range_still_make_a_picture(heights: list[list[float]]) -> None:
    assert height_picture(np.array(heights, np.float32)).shape == (1, 2, 3)


def test_the_gate_is_brown_for_the_dsm_and_blue_for_the_image() -> None:
    dsm, even, image = gate_picture(np.array([[0.0, 0.5, 1.0]], np.float32))[0].astype(int)
    assert dsm[0] > dsm[2] + 60 and image[2] > image[0] + 60
    assert even.min() > 230


def test_a_short_reach_shows_small_differences_of_the_gate() -> None:
    small, full = np.array([[0.4, 0.6]], np.float32), np.array([[0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(gate_picture(small, reach=0.1), gate_picture(full))
    np.testing.assert_array_equal(gate_picture(full, reach=0.1), gate_picture(full))


def test_shrinking_averages_blocks_and_the_rest_at_the_edge() -> None:
    values = np.array([[0, 2, 10], [4, 6, 20], [1, 3, 7]], np.uint8)
    assert shrink_mean(values, 2).tolist() == [[3.0, 15.0], [2.0, 7.0]]


def test_a_missing_height_leaves_the_average_of_the_others() -> None:
    values = np.array([[np.nan, 2.0, np.nan, np.nan], [4.0, 6.0, np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(shrink_mean(values, 2), [[4.0, np.nan]])


@pytest.mark.parametrize("shape", [(7, 13), (16, 16), (5, 5)])
def test_shrunk_layers_of_one_tile_stay_on_one_grid(shape: tuple[int, int]) -> None:
    classes = shrink_classes(np.zeros(shape, np.uint8), 5)
    assert classes.shape == shrink_mean(np.zeros(shape), 5).shape
    assert shrink_picture(np.zeros((*shape, 3), np.uint8), 5).shape == (*classes.shape, 3)
    assert max(classes.shape) <= 5


def test_shrinking_classes_never_makes_a_new_class() -> None:
    classes = np.array([[0, 5], [5, 0]], np.uint8).repeat(8, 0).repeat(8, 1)
    assert shrink_classes(classes, 4).tolist() == [[0, 0, 5, 5], [0, 0, 5, 5], [5, 5, 0, 0], [5, 5, 0, 0]]


def test_a_strip_keeps_every_panel_and_the_gaps_between_them() -> None:
    low, high = np.full((2, 3, 3), 10, np.uint8), np.full((4, 1, 3), 20, np.uint8)
    picture = strip([low, high], gap_px=2)
    assert picture.shape == (4, 6, 3)
    assert picture[0, :, 0].tolist() == [10, 10, 10, 255, 255, 20] and picture[3, 0, 0] == 255
