from __future__ import annotations

import itertools

import numpy as np
import pytest

from components.predict.scores.lattice import Lattice, Window, intersection, overlap, strips, within

SIZES = [(100, 141), (1, 77), (77, 1), (20, 31), (32, 32), (33, 32), (1, 1)]


def lattice(height=100, width=141, window=32, stride=24, batch=4):
    return Lattice(height, width, window, stride, batch)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(("window", "stride"), [(32, 24), (32, 32), (32, 5), (1, 1)])
def test_windows_cover_the_raster_and_none_is_needless(height, width, window, stride):
    made = lattice(height, width, window, stride)
    for count, size in zip(made.shape, (height, width), strict=True):
        ends = [made.pixels(index).stop for index in range(count)]
        assert ends[-1] >= size and all(end < size for end in ends[:-1])


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_windows_over_a_part_are_those_that_share_a_pixel_with_it(height, width):
    made = lattice(height, width)
    for start, stop in itertools.combinations(range(0, height + 1, 3), 2):
        touching = [i for i in range(made.shape[0]) if (p := made.pixels(i)).start < stop and p.stop > start]
        assert list(made.window_rows(slice(start, stop))) == touching


def test_a_stride_beyond_the_window_is_refused():
    with pytest.raises(ValueError, match="stride_px is 33; expected 1 to window_px, which is 32"):
        lattice(stride=33)


def test_a_slot_depends_on_the_place_in_the_lattice_only():
    made = lattice(batch=4)
    rows, columns = made.shape
    slots = [made.slot(Window(i, j)) for i in range(rows) for j in range(columns)]
    assert slots == [index % 4 for index in range(rows * columns)]


def test_weights_fall_smoothly_and_are_never_zero():
    profile = lattice().profile()
    assert profile.min() > 0 and profile.argmax() in (15, 16)
    assert np.array_equal(profile, profile[::-1]) or np.allclose(profile, profile[::-1], atol=0, rtol=1e-12)
    assert (np.diff(profile[:16]) > 0).all()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_sums_of_weights_are_the_same_bits_in_every_part_and_never_zero(height, width):
    made = lattice(height, width)
    whole = made.column_weights(slice(0, width))
    assert (whole > 0).all()
    for start, stop in itertools.combinations(range(0, width + 1, 7), 2):
        assert np.array_equal(made.column_weights(slice(start, stop)), whole[start:stop])
    assert np.array_equal(
        made.row_weights(slice(height // 2, height)), made.row_weights(slice(0, height))[height // 2 :]
    )


def test_ranges_are_intersected_and_counted_from_their_starts():
    assert intersection(slice(2, 9), slice(5, 20)) == slice(5, 9)
    assert intersection(slice(2, 4), slice(8, 9)) == slice(8, 8)
    assert overlap(slice(2, 9), slice(5, 20)) == (slice(3, 7), slice(0, 4))
    assert within(slice(5, 9), slice(4, 12)) == slice(1, 5)


@pytest.mark.parametrize("columns", [slice(0, 5000), slice(700, 4321), slice(3, 4), slice(4990, 5000)])
@pytest.mark.parametrize("block_px", [10, 256, 1000, 10_000])
def test_strips_cover_the_columns_once_in_order(columns, block_px):
    made = lattice(500, 5000, 64, 48, 8)
    found = strips(made, columns, block_px)
    assert [pixel for strip in found for pixel in range(strip.start, strip.stop)] == list(
        range(columns.start, columns.stop)
    )
    assert all(strip.stop - strip.start <= max(block_px, 48) for strip in found)


def test_all_strips_but_the_last_fill_their_batches():
    made = lattice(500, 5000, 64, 48, 8)
    found = strips(made, slice(0, 5000), 1000)
    assert len(found) > 3
    assert [len(made.window_columns(strip)) % 8 for strip in found[:-1]] == [0] * (len(found) - 1)
