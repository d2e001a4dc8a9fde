from __future__ import annotations

import numpy as np

from components.acquire.sample.canvas import GSD_M, Canvas, Frame
from components.acquire.sample.dsm import matched, terrain
from components.acquire.sample.materials import Site
from components.acquire.sample.noise import Textures


def roof_of_6_m() -> Site:
    rng = np.random.default_rng(5)
    canvas = Canvas(400, 40)
    patch = canvas.patch(Frame(0, 0, 0), 5.0, 5.0)
    assert patch is not None
    canvas.lay(patch, np.ones(patch.u_HW.shape, bool), (0.5, 0.5, 0.5), label="building", height=6.0)
    return Site(canvas, Textures(rng), rng)


def test_terrain_is_gentle_and_about_40_m_high() -> None:
    for seed in range(5):
        ground = terrain(seed, 1024, 369000.0, 5807400.0)
        assert 33 < ground.min() < ground.max() < 47
        assert np.abs(np.gradient(ground, GSD_M)).max() < 0.1


def test_neighbouring_tiles_meet_at_the_same_height() -> None:
    side_m = 256 * GSD_M
    here, right, below = (
        terrain(7, 256, 369000.0 + east, 5807400.0 - south) for east, south in ((0, 0), (side_m, 0), (0, side_m))
    )
    assert np.abs(here[:, -1] - right[:, 0]).max() < 0.01
    assert np.abs(here[-1] - below[0]).max() < 0.01


def test_matching_keeps_levels_softens_edges_and_leaves_holes_at_them() -> None:
    height = matched(roof_of_6_m())
    assert height.shape == (400, 400)
    roof, ground = height[140:260, 140:260], height[:60]
    assert abs(np.nanmedian(roof) - 6.0) < 0.1
    assert abs(np.nanmedian(ground)) < 0.1
    across = np.nanmedian(height[150:250, 80:120], axis=0)  # from the ground to the roof
    assert 2 <= np.sum((across > 0.5) & (across < 5.5)) <= 12
    holes = np.argwhere(np.isnan(height))
    assert len(holes) > 0
    assert np.abs(np.abs(holes - 199.5).max(axis=1) - 100).max() < 20
