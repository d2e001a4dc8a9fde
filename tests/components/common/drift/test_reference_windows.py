"""components/common/drift/reference_windows.py, quantities.py and window_places.py: what a package stores."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from components.common.data.store import Tile
from components.common.drift.quantities import WindowPixels, counted
from components.common.drift.reference_windows import read_reference, reference
from components.common.drift.window_places import Place, shuffled_places
from components.common.errors import DataError


def tile_of(side_px, seed=0):
    rng = np.random.default_rng(seed)
    image_HWC = rng.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    dsm_HW = rng.uniform(-0.5, 2, (side_px, side_px)).astype(np.float32)
    dsm_HW[: side_px // 8] = np.nan
    label_HW = np.zeros((side_px, side_px), np.uint8)
    return Tile(image_HWC, dsm_HW, label_HW, label_HW)


@pytest.fixture(scope="module")
def content(trained):
    return reference(trained.network, trained.facts, [tile_of(96), tile_of(64, 1), tile_of(20, 2)])


def test_few_tiles_are_divided_into_areas_and_a_small_tile_gives_one_window(content):
    assert content["areas"] == [0] * 4 + [1] * 2 + [2] * 2 + [3] + [4] * 4 + [5]
    assert (content["window_px"], content["area_px"]) == (32, 34)


def test_every_pixel_of_every_window_is_counted_once_per_quantity(content):
    pixels = [32 * 32] * 13 + [20 * 20]
    for name in ("classes", "confidence", "entropy", "band_red", "band_blue", "sensors"):
        assert [sum(row) for row in content["quantities"][name]["counts"]] == pixels, name
    sensors = np.array(content["quantities"]["sensors"]["counts"])
    assert (sensors[:, 2] == [sum(row) for row in content["quantities"]["height"]["counts"]]).all()


def test_the_reference_is_small_and_the_same_each_time(content, trained):
    tiles = [tile_of(256, seed) for seed in range(2)]
    twice = [json.dumps(reference(trained.network, trained.facts, tiles)) for _ in range(2)]
    assert twice[0] == twice[1] and len(twice[0]) < 50_000
    assert json.loads(twice[0])["areas"] == sorted(json.loads(twice[0])["areas"])


def test_bins_hold_about_equal_shares_and_a_frequent_value_has_its_own_bin(trained):
    image_HWC = np.repeat(np.arange(64, dtype=np.uint8), 64).reshape(64, 64, 1).repeat(3, 2)
    image_HWC[:32] = 7
    label_HW = np.zeros((64, 64), np.uint8)
    tile = Tile(image_HWC, np.zeros((64, 64), np.float32), label_HW, label_HW)
    band = reference(trained.network, trained.facts, [tile])["quantities"]["band_red"]
    shares = np.sum(band["counts"], axis=0) / 64**2
    assert band["starts"][:2] == [0, 8] or band["starts"][:3] == [0, 7, 8]
    assert shares.max() == 0.5 and sorted(shares)[-2] <= 0.1


def test_a_file_gives_the_same_reference_back(content, trained, tmp_path):
    (tmp_path / "reference.json").write_text(json.dumps(content))
    found = read_reference(tmp_path / "reference.json", trained.facts)
    assert found.areas == tuple(content["areas"])
    assert found.histograms["height"].counts_NB.tolist() == content["quantities"]["height"]["counts"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda content: None, "the package has no reference.json; run the export step again"),
        (lambda content: "[", "damaged or of another model"),
        (lambda content: content | {"format": 2}, "format 2, but this version reads format 1"),
        (lambda content: content | {"areas": [0]}, "damaged or of another model"),
        (lambda content: content | {"quantities": {}}, "damaged or of another model"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(change, sentence, content, trained, tmp_path):
    path, changed = tmp_path / "reference.json", change(content)
    if changed is not None:
        path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(DataError, match=sentence):
        read_reference(path, trained.facts)


def test_values_are_counted_where_their_sensor_measured(trained):
    facts = replace(trained.facts, temperature={"rgb+dsm": 2.0})
    sensors_HW = np.array([[0, 1], [2, 3]], np.uint8)
    image_HWC = np.array([[[9] * 3, [10] * 3], [[11] * 3, [12] * 3]], np.uint8)
    window = WindowPixels(image_HWC, np.array([[2, 2], [-0.5, 0.75]], np.float32), sensors_HW)
    logits_KHW = torch.zeros(6, 2, 2)
    logits_KHW[4] = 2 * np.log(5)  # after the temperature five times as likely as each other class
    found = {name: dict(zip(*np.nonzero(counts), counts[counts > 0], strict=True)) for name, counts in counted(
        window, logits_KHW, facts).items()}  # fmt: skip
    assert found["classes"] == {4: 3} and found["confidence"] == {500: 3}
    assert found["band_green"] == {10: 1, 12: 1} and found["height"] == {0: 1, 500: 1}
    assert found["sensors"] == {0: 1, 1: 1, 2: 1}


def test_places_cover_every_raster_once_without_overlap_in_an_order_that_the_seed_gives():
    places = list(shuffled_places([(70, 100), (20, 40)], 32, 3))
    assert sorted(places) == [*(Place(0, row, column) for row in (0, 32) for column in (0, 32, 64)), Place(1, 0, 0)]
    assert (
        places
        == list(shuffled_places([(70, 100), (20, 40)], 32, 3))
        != list(shuffled_places([(70, 100), (20, 40)], 32, 4))
    )
    assert Place(0, 32, 64).pixels(32) == (slice(32, 64), slice(64, 96))
