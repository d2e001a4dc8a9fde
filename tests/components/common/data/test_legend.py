from dataclasses import replace

import numpy as np
import pytest

from components.common.data.datasets import IGNORE, dataset
from components.common.data.legend import Legend, Unknown, decode, legend_of, unknown_sentence

POTSDAM = legend_of(dataset("potsdam"), dataset("potsdam").label)
PALETTE = dataset("potsdam").palette
OWN = Legend(colours=((10, 120, 40), (200, 30, 30), (200, 30, 40)))  # the last two are 10 apart


def picture(rgb_HW3):
    return np.ascontiguousarray(np.moveaxis(np.asarray(rgb_HW3, np.uint8), -1, 0))


def test_every_palette_colour_becomes_its_class_and_black_is_ignored():
    decoded = decode(picture(np.concatenate([PALETTE, [[0, 0, 0]]])[None]), POTSDAM)
    assert decoded.y_HW.tolist() == [[0, 1, 2, 3, 4, 5, IGNORE]]
    assert decoded.y_HW.dtype == np.uint8
    assert (decoded.snapped_px, decoded.unknown_px, decoded.unknown) == (0, 0, None)


def test_magenta_becomes_ignore_never_a_class():
    rgb_HW3 = np.full((8, 8, 3), 255, np.uint8)  # impervious everywhere ...
    rgb_HW3[3, 4] = 200, 10, 200  # ... but the one corner of the colour cube without a class
    decoded = decode(picture(rgb_HW3), POTSDAM)
    assert (decoded.y_HW[3, 4], decoded.unknown_px, decoded.snapped_px) == (IGNORE, 1, 0)
    assert decoded.unknown == Unknown(3, 4, (200, 10, 200))
    assert np.count_nonzero(decoded.y_HW == 0) == 63


def test_cars_of_6_7_are_cars():
    decoded = decode(picture(np.full((2, 3, 3), (252, 255, 0))), POTSDAM)
    assert (decoded.y_HW == 4).all()
    assert decoded.snapped_px == 6


def test_the_threshold_lies_between_127_and_128():
    decoded = decode(picture([[[127, 127, 128], [128, 127, 127], [127, 127, 127], [128, 128, 128]]]), POTSDAM)
    assert decoded.y_HW.tolist() == [[1, 5, IGNORE, 0]]
    assert (decoded.snapped_px, decoded.unknown_px) == (4, 0)


@pytest.mark.parametrize("nudge", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_one_channel_off_by_one_counts_as_snapped(nudge):
    rgb_HW3 = np.zeros((4, 4, 3), np.uint8)
    rgb_HW3[2, 2] = nudge
    decoded = decode(picture(rgb_HW3), POTSDAM)
    assert (decoded.snapped_px, decoded.y_HW[2, 2]) == (1, IGNORE)


def test_a_lossy_picture_decodes_to_the_classes_it_was_made_of():
    y_HW = np.random.default_rng(0).integers(0, 6, (50, 60))
    noise = np.random.default_rng(1).integers(-100, 101, (50, 60, 3))
    decoded = decode(picture((PALETTE[y_HW].astype(int) + noise).clip(0, 255)), POTSDAM)
    np.testing.assert_array_equal(decoded.y_HW, y_HW)
    exact_px = decode(picture(PALETTE[y_HW]), POTSDAM).snapped_px
    assert (exact_px, decoded.snapped_px > 0.8 * y_HW.size) == (0, True)


def test_any_part_of_a_picture_decodes_as_in_the_whole():
    picture_BHW = np.random.default_rng(0).integers(0, 256, (3, 40, 30), dtype=np.uint8)
    whole = decode(picture_BHW, POTSDAM)
    parts = [decode(picture_BHW[:, rows], POTSDAM) for rows in (slice(0, 17), slice(17, 40))]
    np.testing.assert_array_equal(np.concatenate([part.y_HW for part in parts]), whole.y_HW)
    assert sum(part.snapped_px for part in parts) == whole.snapped_px
    assert sum(part.unknown_px for part in parts) == whole.unknown_px


def test_black_is_a_class_where_the_legend_says_so():
    decoded = decode(picture([[[0, 0, 0], [255, 255, 255]]]), Legend(colours=((255, 255, 255), (0, 0, 0))))
    assert decoded.y_HW.tolist() == [[1, 0]]


def test_own_colours_may_be_off_by_a_little_but_never_by_so_much_that_two_could_be_meant():
    row = [
        (10, 120, 40),
        (200, 30, 30),
        (204, 26, 34),
        (200, 30, 35),
        (200, 30, 36),
        (0, 0, 0),
        (3, 3, 3),
        (18, 120, 40),
    ]
    decoded = decode(picture([row]), OWN)
    assert decoded.y_HW.tolist() == [[0, 1, 1, IGNORE, 2, IGNORE, IGNORE, IGNORE]]
    assert (decoded.snapped_px, decoded.unknown_px) == (3, 2)
    assert decoded.unknown == Unknown(0, 3, (200, 30, 35))
    alone = Legend(colours=((10, 120, 40), (200, 30, 30)))
    assert decode(picture([[(18, 112, 40), (19, 120, 40)]]), alone).y_HW.tolist() == [[0, IGNORE]]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32"])
def test_values_become_their_classes_and_other_values_are_unknown(dtype):
    decoded = decode(np.array([[[3, 7, 0, 255, 4]]], dtype), Legend(values=(7, 3, 0)))
    assert decoded.y_HW.tolist() == [[1, 0, 2, IGNORE, IGNORE]]
    assert (decoded.snapped_px, decoded.unknown_px, decoded.unknown) == (0, 1, Unknown(0, 4, (4,)))


def test_a_value_beyond_one_byte_is_a_value_like_any_other():
    decoded = decode(np.array([[[1000, 232, -1]]], np.int16), Legend(values=(5, 1000)))  # 232 = 1000 modulo 256
    assert decoded.y_HW.tolist() == [[1, IGNORE, IGNORE]]
    assert decoded.unknown_px == 2


def test_colours_and_values_to_ignore_are_no_class_and_not_unknown():
    by_value = decode(np.array([[[3, 7, 9, 8]]], np.uint8), Legend(values=(7, 3), ignored=(9,)))
    assert by_value.y_HW.tolist() == [[1, 0, IGNORE, IGNORE]]
    assert (by_value.unknown_px, by_value.unknown) == (1, Unknown(0, 3, (8,)))
    white_blue = Legend(colours=((255, 255, 255), (0, 0, 255)), ignored=((255, 0, 255),))
    by_corner = decode(picture([[(255, 0, 255), (0, 0, 255), (255, 255, 255), (250, 4, 250)]]), white_blue)
    assert (by_corner.y_HW.tolist(), by_corner.unknown_px) == ([[IGNORE, 1, 0, IGNORE]], 0)


def test_a_colour_to_ignore_that_is_no_corner_of_the_colour_cube_is_told_from_the_classes():
    legend = Legend(colours=((255, 255, 255), (0, 0, 255)), ignored=((128, 0, 128),))
    decoded = decode(picture([[(128, 0, 128), (255, 255, 255), (0, 0, 255), (120, 6, 133), (255, 0, 255)]]), legend)
    assert decoded.y_HW.tolist() == [[IGNORE, 0, 1, IGNORE, IGNORE]]
    assert (decoded.unknown_px, decoded.unknown) == (1, Unknown(0, 4, (255, 0, 255)))


def test_floats_are_classes_where_they_are_whole_numbers_and_nan_is_ignored():
    decoded = decode(np.array([[[7.0, 3.0, np.nan, 7.5, np.inf, 255.0]]], np.float32), Legend(values=(7, 3)))
    assert decoded.y_HW.tolist() == [[0, 1, IGNORE, IGNORE, IGNORE, IGNORE]]
    assert (decoded.unknown_px, decoded.unknown) == (2, Unknown(0, 3, (7.5,)))


def test_missing_pixels_are_ignored_and_not_counted():
    missing_HW = np.array([[True, False, True]])
    decoded = decode(np.array([[[9, 7, 7]]], np.uint8), Legend(values=(7, 3)), missing_HW)
    assert (decoded.y_HW.tolist(), decoded.unknown_px) == ([[IGNORE, 0, IGNORE]], 0)
    snapped = decode(picture([[(250, 255, 255), (250, 255, 255), (0, 0, 255)]]), POTSDAM, missing_HW)
    assert (snapped.y_HW.tolist(), snapped.snapped_px) == ([[IGNORE, 0, IGNORE]], 1)


def test_the_legend_holds_what_the_data_set_declares_as_not_labelled():
    info = replace(dataset("potsdam").label, nodata=(0, (128, 0, 128)), ignore=((255, 0, 255),))
    legend = legend_of(dataset("potsdam"), info)
    assert legend.ignored == ((0, 0, 0), (128, 0, 128), (255, 0, 255))
    assert (legend.bands, legend.dtypes, legend.colours) == (3, ("uint8",), POTSDAM.colours)


def test_unknown_pixels_are_described_by_count_share_kind_and_place():
    assert unknown_sentence(6, 100, Unknown(3, 4, (255, 3, 254))) == (
        "6 px (6 %) have a colour of no class, for example RGB 255, 3, 254 at row 3, column 4"
    )
    assert unknown_sentence(1234, 10**6, Unknown(0, 1, (9.5,))) == (
        "1,234 px (0.123 %) have a value of no class, for example 9.5 at row 0, column 1"
    )
