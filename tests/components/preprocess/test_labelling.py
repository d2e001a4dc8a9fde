import numpy as np
import pytest

from components.common.data.datasets import IGNORE
from components.preprocess.labelling import class_counts, eroded


def blobs(height, width):
    y_HW = np.kron(np.random.default_rng(0).integers(0, 3, (height // 9 + 1, width // 7 + 1)), np.ones((9, 7), int))
    y_HW = y_HW[:height, :width].astype(np.uint8)
    y_HW[height // 3 : height // 2, width // 4 : width // 2] = IGNORE
    return y_HW


def slowly_eroded(y_HW):
    """Word for word: a labelled pixel with another class within three pixels is ignored."""
    result = y_HW.copy()
    for row, column in np.ndindex(y_HW.shape):
        for other in np.ndindex(y_HW.shape):
            near = (other[0] - row) ** 2 + (other[1] - column) ** 2 <= 9
            if near and IGNORE not in (y_HW[other], y_HW[row, column]) and y_HW[other] != y_HW[row, column]:
                result[row, column] = IGNORE
    return result


@pytest.mark.parametrize(("height", "width"), [(26, 31), (1, 40), (30, 2), (1, 1)])
def test_labels_within_three_pixels_of_another_class_are_ignored(height, width):
    y_HW = blobs(height, width)
    before_HW = y_HW.copy()
    np.testing.assert_array_equal(eroded(y_HW), slowly_eroded(y_HW))
    np.testing.assert_array_equal(y_HW, before_HW)


def test_ignored_areas_leave_their_neighbours_labelled():
    y_HW = np.full((20, 20), 4, np.uint8)
    y_HW[5:9] = IGNORE
    np.testing.assert_array_equal(eroded(y_HW), y_HW)


def test_a_lone_pixel_takes_a_disc_of_29_pixels():
    y_HW = np.zeros((15, 15), np.uint8)
    y_HW[7, 7] = 1
    assert np.count_nonzero(eroded(y_HW) == IGNORE) == 29


def test_classes_are_counted_and_the_ignored_are_not():
    assert class_counts(np.array([[0, 0, 2], [IGNORE, 2, 2]], np.uint8), 4).tolist() == [2, 0, 3, 0]
