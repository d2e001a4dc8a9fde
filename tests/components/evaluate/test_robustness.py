"""components/evaluate/robustness.py: degraded tiles and their scores, worked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from components.common.data.store import Tile
from components.evaluate.config import EvaluateConfig
from components.evaluate.robustness import (
    PERTURBATIONS,
    Perturbation,
    brighter,
    coarser,
    degraded,
    dropped,
    lost_band,
    noisy,
    shifted,
)
from components.evaluate.step import run
from tests.components.evaluate.conftest import make_tile

CONFIG = EvaluateConfig(window_px=16, stride_px=8, batch_size=8, failure_probability=0.2, panel_px=64, robustness=True)
NAN = np.nan


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_noise_and_losses_have_the_wanted_size(rng):
    values = np.full((300, 400, 3), 100, np.float32)
    noise = noisy(values, 5, rng) - values
    assert noise.std() == pytest.approx(5, rel=0.01) and abs(noise.mean()) < 0.05
    lost = np.isnan(dropped(values, 20, rng))
    assert lost.mean() == pytest.approx(0.2, abs=0.01)
    assert (lost.all(axis=-1) == lost.any(axis=-1)).all()  # all bands of a pixel
    assert np.isnan(dropped(values[..., 0], 5, rng)).mean() == pytest.approx(0.05, abs=0.005)


def test_shift_resolution_brightness_and_band_are_exact(rng):
    row = np.array([[1, 2, 3, 4, NAN]], np.float32)
    np.testing.assert_array_equal(shifted(row, 2, rng), [[1, 1, 1, 2, 3]])
    square = np.array([[1, 3, 5], [NAN, 2, 7], [4, NAN, NAN]], np.float32)
    np.testing.assert_array_equal(coarser(square, 2, rng), [[2, 2, 6], [2, 2, 6], [4, 4, NAN]])
    np.testing.assert_allclose(brighter(row, 1.3, rng), [[1.3, 2.6, 3.9, 5.2, NAN]], rtol=1e-6)
    pixels = np.ones((2, 2, 3), np.float32)
    assert np.isnan(lost_band(pixels, 1, rng)).tolist() == [[[False, True, False]] * 2] * 2


def test_degraded_pixels_depend_on_tile_and_level_alone_and_the_tile_stays(make_store, facts_for):
    facts, tile = facts_for(make_store()), make_tile(0)
    before = (tile.image_HWC.copy(), tile.dsm_HW.copy())
    for kind in PERTURBATIONS:
        first, again, other = (degraded(tile, name, kind, kind.levels[-1], facts) for name in ("a", "a", "b"))
        np.testing.assert_array_equal(first.image_HWC, again.image_HWC)
        np.testing.assert_array_equal(first.dsm_HW, again.dsm_HW)
        changed = [not np.array_equal(f, o, equal_nan=True) for f, o in zip(layers(first), layers(other), strict=True)]
        assert sum(changed) == (kind.degrade in (noisy, dropped))  # one sensor, where chance decides
    np.testing.assert_array_equal(tile.image_HWC, before[0])
    np.testing.assert_array_equal(tile.dsm_HW, before[1])


def layers(tile: Tile):
    return tile.image_HWC, tile.dsm_HW


def test_heights_get_noise_in_metres_within_the_limits_of_the_store(make_store, facts_for):
    facts = facts_for(make_store())  # 10 m are 1, limits -0.5 to 2
    tile = replace(make_tile(0), dsm_HW=np.zeros((40, 40), np.float32))
    metres = Perturbation("noise", "dsm", (1,), "m", noisy)
    assert degraded(tile, "a", metres, 1, facts).dsm_HW.std() == pytest.approx(0.1, rel=0.1)
    assert degraded(tile, "a", metres, 100, facts).dsm_HW.min() == -0.5
    image = degraded(tile, "a", Perturbation("noise", "rgb", (200,), "grey values", noisy), 200, facts).image_HWC
    assert (image.min(), image.max()) == (0, 255)


def test_the_table_has_the_scores_of_a_network_that_needs_both_sensors(make_store, use_network, by_rule, tmp_path):
    store = make_store()
    record = run(CONFIG, store, use_network(by_rule(), store), tmp_path / "reports").evaluation
    found = {(row.perturbation, row.sensor, row.level): row for row in record.robustness}
    assert len(found) == sum(len(kind.levels) for kind in PERTURBATIONS) + 3
    for px in (1, 2, 4, 8):  # as many columns of the high class are taken for the low one
        row = found["shift", "dsm", px]
        assert row.miou == pytest.approx(50 * (20 / (20 + px) + (20 - px) / 20))
        assert (row.change, row.unit) == (pytest.approx(row.miou - 100), "px")
    assert found["brightness", "rgb", 0.7].miou == found["noise", "dsm", 0.1].miou == 100
    assert found["lost band", "rgb", "red"].miou == 25  # it looks at this band only
    assert found["lost band", "rgb", "green"].change == 0
    lost = [found["lost pixels", "dsm", percent].miou for percent in (1, 5, 20)]
    assert 100 > lost[0] > lost[1] > lost[2]


def test_a_network_of_one_sensor_and_heights_without_metres_have_fewer_rows(make_store, use_network, by_rule, tmp_path):
    heights = replace(facts_heights(), method="per-tile", offset_m=None, scale_m=None, percentiles=(1.0, 99.0))
    store = make_store(heights=heights)
    weights = use_network(by_rule(modalities=("dsm",)), store)
    record = run(CONFIG, store, weights, tmp_path / "reports").evaluation
    assert {(row.perturbation, row.unit) for row in record.robustness} >= {("shift", "px"), ("lost pixels", "%")}
    assert "m" not in {row.unit for row in record.robustness}


def facts_heights():
    from tests.components.evaluate.conftest import HEIGHTS

    return HEIGHTS
