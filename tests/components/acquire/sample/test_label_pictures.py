from __future__ import annotations

import numpy as np

from components.acquire.sample.label_pictures import boundary, coloured, eroded
from components.common.data import datasets


def test_exactly_the_pixels_within_three_pixels_of_another_class_are_ignored() -> None:
    label_HW = np.zeros((24, 30), np.uint8)
    label_HW[5:15, 8:20], label_HW[15:, 20:] = 1, 4
    expected = np.zeros(label_HW.shape, bool)
    for row, col in np.ndindex(label_HW.shape):
        for other in np.argwhere(label_HW != label_HW[row, col]):
            expected[row, col] |= np.hypot(*(other - (row, col))) <= 3
    assert expected.any() and not expected.all()
    assert np.array_equal(boundary(label_HW), expected)


def test_eroded_is_black_on_the_boundary_and_the_full_label_elsewhere() -> None:
    label_HW = np.repeat(np.arange(6, dtype=np.uint8), 10)[None].repeat(20, axis=0)
    full, without = coloured(label_HW), eroded(label_HW)
    edge = boundary(label_HW)
    assert (without[edge] == 0).all()
    assert np.array_equal(without[~edge], full[~edge])
    assert [tuple(full[0, 10 * k]) for k in range(6)] == [
        tuple(colour) for colour in datasets.dataset("sample").palette
    ]


def test_one_class_alone_has_no_boundary() -> None:
    assert not boundary(np.full((16, 16), 3, np.uint8)).any()
