"""Several files as one raster: every pixel in its place, what nobody covers is missing, contradictions are named."""

from __future__ import annotations

import os
import resource
from contextlib import ExitStack

import numpy as np
import pytest
from rasterio import Affine

from components.common.errors import DataError
from components.common.rasterfiles.position import position_of
from components.common.rasterfiles.source_files import open_source
from tests.components.common.readers.conftest import HERE, write

SIDE = 20


def tile(path, value, row, column, *, transform=HERE, **facts):
    """A file of one value (or of given pixels) at a place of the common grid."""
    pixels = np.full((1, SIDE, SIDE), value, np.uint8) if np.isscalar(value) else value
    place = {"crs": "EPSG:32633", "transform": transform @ Affine.translation(column, row)}
    return str(write(path, pixels, **{**place, **facts}))


def mosaic(*names, rows=None, columns=None):
    """Pixels, where they are missing, and the open file's header and notes."""
    with ExitStack() as stack:
        file = open_source(names, stack)
        numbers = range(1, file.header.bands + 1)
        return file.read(numbers, rows, columns), file.hidden(numbers, rows, columns), file.header, file.notes()


def rejected(*names):
    with pytest.raises(DataError) as caught:
        mosaic(*names)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_every_pixel_is_in_its_place_and_gaps_are_missing(tmp_path):
    names = [tile(tmp_path / "a.tif", 1, 0, 0), tile(tmp_path / "b.tif", 2, 5, 30), tile(tmp_path / "c.tif", 3, -7, 8)]
    pixels, hidden, header, _ = mosaic(*names)
    expected = np.zeros((32, 50), np.uint8)
    for value, row, column in ((1, 7, 0), (2, 12, 30), (3, 0, 8)):
        expected[row : row + SIDE, column : column + SIDE] = value
    assert np.array_equal(pixels[0], expected)
    assert np.array_equal(hidden, expected == 0)
    assert header.transform == HERE @ Affine.translation(0, -7)


def test_any_window_equals_that_part_of_all(tmp_path):
    random = np.random.default_rng(0)
    names = [
        tile(tmp_path / f"{n}.tif", random.integers(0, 255, (1, SIDE, SIDE), np.uint8), *random.integers(0, 60, 2))
        for n in range(12)
    ]
    pixels, hidden, header, _ = mosaic(*names)
    with ExitStack() as stack:
        file = open_source(names, stack)
        for _ in range(40):
            (top, bottom), (left, right) = (
                np.sort(random.choice(size + 1, 2, False)) for size in (header.height_px, header.width_px)
            )
            window = slice(top, bottom), slice(left, right)
            assert np.array_equal(file.read((1,), *window), pixels[:, *window])
            assert np.array_equal(file.hidden((1,), *window), hidden[window])


def test_later_files_lie_on_top_and_sorted_globs_count(tmp_path):
    tile(tmp_path / "2.tif", 2, 0, 5)
    tile(tmp_path / "1.tif", 1, 0, 0)
    assert set(mosaic(f"{tmp_path}/*.tif")[0][0, :, 5:20].flat) == {2}
    assert set(mosaic(str(tmp_path / "2.tif"), str(tmp_path / "1.tif"))[0][0, :, 5:20].flat) == {1}


def test_a_missing_pixel_shows_the_file_below(tmp_path):
    hidden = np.zeros((SIDE, SIDE), bool)
    hidden[:, :10] = True
    below = tile(tmp_path / "below.tif", 1, 0, 0)
    masked = tile(tmp_path / "masked.tif", 2, 0, 0, hidden_HW=hidden)
    pixels, missing, *_ = mosaic(below, masked)
    assert np.array_equal(pixels[0], np.where(hidden, 1, 2)) and not missing.any()
    pixels, missing, *_ = mosaic(masked, masked)
    assert np.array_equal(missing, hidden)


def test_a_nodata_value_that_all_files_state_is_that_of_the_mosaic(tmp_path):
    values = np.full((1, SIDE, SIDE), 2, np.uint8)
    values[0, :10] = 7
    names = [tile(tmp_path / "a.tif", 1, 0, 0, nodata=7), tile(tmp_path / "b.tif", values, 0, 10, nodata=7)]
    pixels, missing, header, _ = mosaic(*names)
    assert header.nodata == (7,)
    assert pixels[0, 0].tolist() == [1] * 20 + [7] * 10
    assert not missing.any()


def test_different_nodata_values_become_a_mask(tmp_path):
    values = np.full((1, SIDE, SIDE), 2, np.uint8)
    values[0, :10] = 7
    names = [tile(tmp_path / "a.tif", 1, 0, 0), tile(tmp_path / "b.tif", values, 0, SIDE, nodata=7)]
    pixels, missing, header, _ = mosaic(*names)
    assert header.nodata == (None,)
    assert missing[:, :SIDE].sum() == 0 and np.array_equal(missing[:, SIDE:], values[0] == 7)


def test_transparent_pixels_show_the_file_below_and_gaps_are_transparent(tmp_path):
    facts = {"photometric": "rgb", "alpha": "yes"}
    rgba = np.full((4, SIDE, SIDE), 9, np.uint8)
    rgba[3] = np.where(np.arange(SIDE) < 10, 0, 255)
    opaque = np.full((4, SIDE, SIDE), 255, np.uint8)
    pixels, missing, header, _ = mosaic(
        tile(tmp_path / "a.tif", opaque, 0, 0, **facts), tile(tmp_path / "b.tif", rgba, 0, 5, **facts)
    )
    assert header.alpha == 4
    assert pixels[0, 0].tolist() == [255] * 15 + [9] * 10
    assert missing.sum() == 0
    assert pixels[3, 0].tolist() == [255] * 25


def test_a_colour_table_is_kept(tmp_path):
    palette = {0: (255, 0, 0, 255), 1: (0, 0, 255, 255)}
    names = [tile(tmp_path / f"{n}.tif", n, 0, SIDE * n, palette=palette) for n in (0, 1)]
    header = mosaic(*names)[2]
    assert (header.palette[0], header.palette[1], header.colours) == (palette[0], palette[1], ("palette",))


def test_pictures_with_world_files_make_a_mosaic(tmp_path):
    for n in (0, 1):
        write(tmp_path / f"{n}.png", np.full((1, SIDE, SIDE), n + 1, np.uint8), driver="PNG")
        (tmp_path / f"{n}.pgw").write_text(f"0.5\n0\n0\n-0.5\n{366000.25 + n * SIDE / 2}\n5806999.75\n")
    with ExitStack() as stack:
        file = open_source([f"{tmp_path}/*.png"], stack)
        assert file.read((1,))[0, 0].tolist() == [1] * SIDE + [2] * SIDE
        assert position_of(file, None).transform == HERE


def test_shifts_below_half_a_pixel_are_read_as_they_are_and_noted(tmp_path):
    names = [tile(tmp_path / "a.tif", 1, 0, 0), tile(tmp_path / "b.tif", 2, 0.3, SIDE - 0.4)]
    pixels, _, _, notes = mosaic(*names)
    assert pixels[0, 0].tolist() == [1] * SIDE + [2] * SIDE
    assert [note.sentence for note in notes if note.code == "grid-shift"] == [
        "files lie up to 0.40 px off the grid of the first one; read as they are"
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": np.zeros((2, SIDE, SIDE), np.uint8)}, "its number of bands is 2, that of"),
        ({"value": np.zeros((1, SIDE, SIDE), np.uint16)}, "its pixel type is uint16, that of"),
        ({"crs": "EPSG:32632"}, "its reference system is EPSG:32632, that of"),
        ({"crs": None}, "its reference system is none, that of"),
        ({"transform": HERE @ Affine.scale(2)}, "its pixels (1 x 1) have another size or orientation than those of"),
        ({"transform": HERE @ Affine.scale(1, -1)}, "have another size or orientation"),
        ({"transform": HERE @ Affine.rotation(5)}, "have another size or orientation"),
        ({"scales": (0.1,)}, "its scale is 0.1, that of"),
        ({"palette": {0: (1, 2, 3, 255)}}, "its colour table is not that of"),
        ({"transform": None, "crs": None}, "has no position, which a mosaic needs; add a world file"),
    ],
)
def test_contradictions_name_both_files(tmp_path, change, words):
    facts = {"value": 2, "row": 0, "column": 30, **change}
    if facts.get("transform", HERE) is None:
        other = str(write(tmp_path / "b.tif", np.zeros((1, SIDE, SIDE), np.uint8)))
    else:
        other = tile(tmp_path / "b.tif", **facts)
    sentence = rejected(tile(tmp_path / "a.tif", 1, 0, 0), other)
    assert sentence.startswith(f"{tmp_path}/b.tif: ") and words in sentence
    assert "position" in words or "a.tif" in sentence


def test_files_far_apart_are_no_mosaic(tmp_path):
    sentence = rejected(tile(tmp_path / "a.tif", 1, 0, 0), tile(tmp_path / "b.tif", 2, 0, 2_000_000))
    assert "the mosaic would have 2,000,020 x 20 px; check the positions of the files" in sentence


def test_more_files_than_may_be_open_make_a_mosaic(tmp_path):
    count = 150
    for n in range(count):
        tile(tmp_path / f"{n:03}.tif", n + 1, 0, SIDE * n)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 100, hard))
    try:
        pixels = mosaic(f"{tmp_path}/*.tif")[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert pixels[0, 0, ::SIDE].tolist() == list(range(1, count + 1))
