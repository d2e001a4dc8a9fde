from __future__ import annotations

import numpy as np
import pytest

from components.predict.outputs.parts import Region
from components.predict.outputs.seams import Seams, measure
from components.predict.outputs.working import Tally

NONE = 255


def seams(classes, window, region=None, size=None, step=None, counts=None):
    region = region or Region(slice(0, classes.shape[0]), slice(0, classes.shape[1]))
    step = step or len(classes)
    bands = [
        (slice(region.rows.start + i, region.rows.start + i + len(rows)), rows)
        for i in range(0, len(classes), step)
        for rows in [classes[i : i + step]]
    ]
    return measure(bands, region, size or classes.shape, window, counts or Tally())


def test_a_change_at_every_lattice_line_and_nowhere_else_is_all_and_nothing():
    y, x = np.mgrid[0:24, 0:40]
    classes = (y // 8 + x // 8).astype(np.uint8) % 2  # windows of 8 side by side
    assert seams(classes, (8, 8)) == Seams(None, 1.0, 0.0)


def test_starts_and_ends_of_overlapping_windows_are_lines():
    classes = np.zeros((1, 30), np.uint8)
    for end in (6, 10, 12, 16):  # windows 0..10, 6..16, 12..22, 18..28, 24..34: some of their starts and ends
        classes[0, end:] += 1
    found = seams(classes, (10, 6))
    assert found.on_lines == 4 / 8 and found.elsewhere == 0  # 6 10 12 16 18 22 24 28


def test_a_map_without_structure_has_the_same_rate_on_lines_and_elsewhere():
    classes = np.random.default_rng(1).integers(0, 2, (300, 300), dtype=np.uint8)
    found = seams(classes, (64, 48))
    assert found.on_lines == pytest.approx(0.5, abs=0.03) and found.elsewhere == pytest.approx(0.5, abs=0.03)


def test_pixels_without_a_class_do_not_count():
    classes = np.array([[0, NONE, 1, 1], [NONE, NONE, 1, 1]], np.uint8)
    assert seams(classes, (2, 2)) == Seams(None, None, 0.0)  # both pairs across column 2 lack a class


@pytest.mark.parametrize("step", [1, 2, 5, 31])
def test_rates_do_not_depend_on_the_bands(step):
    classes = np.random.default_rng(2).choice(np.array([0, 1, NONE], np.uint8), (31, 23))
    assert seams(classes, (7, 5), step=step) == seams(classes, (7, 5))


def test_lines_are_those_of_the_raster_wherever_the_region_lies():
    y, x = np.mgrid[0:40, 0:40]
    classes = (y // 8 + x // 8).astype(np.uint8) % 2
    region = Region(slice(5, 30), slice(3, 39))
    assert seams(classes[region.rows, region.columns], (8, 8), region, (40, 40), 4) == Seams(None, 1.0, 0.0)


def test_one_window_or_one_pixel_has_no_lines():
    assert seams(np.zeros((5, 5), np.uint8), (8, 4)) == Seams(None, None, 0.0)
    assert seams(np.zeros((1, 1), np.uint8), (8, 4)) == Seams(None, None, None)


def test_agreement_is_the_share_of_agreeing_pairs():
    found = seams(np.zeros((4, 4), np.uint8), (8, 4), counts=Tally(agreeing=3, pairs=4))
    assert found.agreement == 0.75
    assert found.tags() == {"MOBANET_AGREEMENT": "0.750000", "MOBANET_CHANGES_ELSEWHERE": "0.000000"}
