from __future__ import annotations

import math

import numpy as np

from components.acquire.sample.canvas import GSD_M, Canvas
from components.acquire.sample.light import Sun, cast_shadow, photograph


def test_a_wall_casts_a_shadow_as_long_as_its_height_over_the_tangent_of_the_sun() -> None:
    height_HW = np.zeros((40, 200), np.float32)
    height_HW[:, 50:52] = 4.0
    hidden = cast_shadow(height_HW, Sun(azimuth=math.pi, elevation=math.radians(45)))[20]  # the sun stands to the left
    assert not hidden[:50].any()
    shadow = np.flatnonzero(hidden[52:] > 0.5) + 52
    assert (shadow[0], abs(shadow[-1] - (51 + 4.0 / GSD_M)) <= 2) == (52, True)
    assert len(shadow) == shadow[-1] - shadow[0] + 1


def test_doubling_finds_what_marching_pixel_by_pixel_finds() -> None:
    rng = np.random.default_rng(3)
    height_HW = np.zeros((90, 90), np.float32)
    for row, col, top in zip(rng.integers(80, size=12), rng.integers(80, size=12), rng.uniform(1, 4, 12), strict=True):
        height_HW[row : row + 8, col : col + 8] = np.maximum(height_HW[row : row + 8, col : col + 8], top)
    sun = Sun(azimuth=math.radians(0), elevation=math.radians(50))
    rise = math.tan(sun.elevation) * GSD_M
    marched = np.zeros(height_HW.shape, bool)
    for step in range(1, 90):
        marched[:, :-step] |= height_HW[:, step:] - step * rise > height_HW[:, :-step] + 0.10
    assert np.mean(marched != (cast_shadow(height_HW, sun) > 0.6)) < 0.01


def test_a_slope_towards_the_sun_is_brighter_than_one_away_from_it() -> None:
    canvas = Canvas(64, 10)
    patch = canvas.all()
    roof = 6.0 - 0.5 * np.abs(patch.u_HW)
    canvas.lay(patch, np.ones(roof.shape, bool), (0.5, 0.5, 0.5), label="building", height=roof)
    picture = photograph(
        canvas, Sun(azimuth=0.0, elevation=math.radians(50)), np.random.default_rng(0)
    )  # from the right
    assert picture[:, 40:60].mean() > picture[:, 5:25].mean() + 20
