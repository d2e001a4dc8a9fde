"""What makes the sample worth training on: shares, and what image and heights can and cannot tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from components.acquire.sample.canvas import GSD_M, LABELS
from components.acquire.sample.tile import make_scene


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Shared part of two colour distributions, 0..1; colours in steps of 32."""
    histograms = [np.histogramdd(pixels, bins=8, range=[(0, 256)] * 3)[0] / len(pixels) for pixels in (first, second)]
    return float(np.minimum(*histograms).sum())


def level_roof(scene) -> np.ndarray:
    """Building pixels whose heights do not rise."""
    filled = np.where(np.isnan(scene.dsm_HW), np.nanmedian(scene.dsm_HW), scene.dsm_HW)
    down, right = np.gradient(ndimage.gaussian_filter(filled, 8), GSD_M)
    return (scene.label_HW == LABELS["building"]) & (np.hypot(down, right) < 0.2)


def height_steps(scene, first: str, second: str, block: int = 48) -> np.ndarray:
    """Median height of one class minus that of another, metres, in every block that holds enough of both."""
    steps = []
    for row in range(0, scene.label_HW.shape[0], block):
        for col in range(0, scene.label_HW.shape[1], block):
            window = np.s_[row : row + block, col : col + block]
            heights = [scene.dsm_HW[window][scene.label_HW[window] == LABELS[name]] for name in (first, second)]
            if min(map(len, heights)) > block * block / 5:
                steps.append(np.nanmedian(heights[0]) - np.nanmedian(heights[1]))
    return np.array(steps)


def test_the_same_seed_gives_the_same_pixels_and_another_seed_another_city() -> None:
    first, again, other = (make_scene(seed, "2_10", 256) for seed in (7, 7, 8))
    for layer in ("image_HW3", "dsm_HW", "label_HW"):
        assert np.array_equal(getattr(first, layer), getattr(again, layer), equal_nan=layer == "dsm_HW")
    assert np.mean(first.label_HW != other.label_HW) > 0.2


def test_two_tiles_of_a_city_differ() -> None:
    assert np.mean(make_scene(7, "2_10", 256).label_HW != make_scene(7, "2_11", 256).label_HW) > 0.2


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("impervious", 0.20, 0.42),
        ("building", 0.16, 0.40),
        ("low_vegetation", 0.12, 0.32),
        ("tree", 0.08, 0.25),
        ("car", 0.008, 0.045),
        ("clutter", 0.005, 0.08),
    ],
)
def test_classes_have_about_the_shares_of_potsdam(city, name: str, low: float, high: float) -> None:
    assert low < np.mean(city.labels() == LABELS[name]) < high


def test_streets_and_roofs_share_their_colours(city) -> None:
    assert overlap(city.pixels("impervious"), city.pixels("building")) > 0.5


def test_streets_and_flat_roofs_share_their_colours(city) -> None:
    roofs = np.concatenate([scene.image_HW3[level_roof(scene)] for scene in city.scenes])
    assert len(roofs) > 50_000
    assert overlap(city.pixels("impervious"), roofs) > 0.4


def test_crowns_and_lawns_share_colours(city) -> None:
    assert overlap(city.pixels("tree"), city.pixels("low_vegetation")) > 0.45


def test_streets_and_lawns_do_not_share_their_colours(city) -> None:
    assert overlap(city.pixels("impervious"), city.pixels("low_vegetation")) < 0.3


def test_streets_and_lawns_lie_at_the_same_height(city) -> None:
    steps = np.concatenate([height_steps(scene, "impervious", "low_vegetation") for scene in city.scenes])
    assert len(steps) > 20
    assert np.median(np.abs(steps)) < 0.05


@pytest.mark.parametrize(("high", "ground"), [("building", "impervious"), ("tree", "low_vegetation")])
def test_height_tells_apart_what_colour_does_not(city, high: str, ground: str) -> None:
    steps = np.concatenate([height_steps(scene, high, ground) for scene in city.scenes])
    assert np.mean(steps > 1.5) > 0.9


def test_roofs_cast_shadows_on_the_ground_beside_them(city) -> None:
    shares = []
    for scene in city.scenes:
        paved, roof = (scene.label_HW == LABELS[name] for name in ("impervious", "building"))
        near = paved & ndimage.binary_dilation(roof, iterations=12)
        brightness = scene.image_HW3.mean(axis=2)
        shares.append(np.mean(brightness[near] < np.percentile(brightness[paved], 10)))
    assert np.mean(shares) > 0.2  # of all paved pixels it is 0.1


def test_heights_are_absolute_metres_with_a_few_holes(city) -> None:
    for scene in city.scenes:
        assert scene.dsm_HW.dtype == np.float32
        assert 0.0005 < np.mean(np.isnan(scene.dsm_HW)) < 0.02
        low, high = np.nanpercentile(scene.dsm_HW, [1, 99.9])
        assert 33 < low < 45 < high < 60


def test_neighbouring_tiles_touch_on_the_ground() -> None:
    origins = {(scene.east_m, scene.north_m) for scene in (make_scene(7, t, 256) for t in ("2_10", "2_11", "3_10"))}
    assert origins == {(366128.0, 5807974.4), (366140.8, 5807974.4), (366128.0, 5807961.6)}
