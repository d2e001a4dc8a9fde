"""components/watch on the generated city: shifts are found; other tiles of the city are not, at the stated level."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from components.acquire.sample.tile import make_scene
from components.common.data.height_scaling import scaled
from components.common.data.store import Tile
from components.common.drift.quantities import WindowPixels
from components.common.drift.reference_windows import count_all, read_reference, reference, window_of
from components.common.drift.verdicts import Tolerance, verdicts
from components.common.drift.window_places import shuffled_places
from components.common.inference.modelfile import save_model
from components.common.predictors.models import open_model
from components.watch.watching import logits_of
from model import MoBaNet, MoBaNetConfig
from tests.components.conftest import toy_facts

pytestmark = pytest.mark.system

CITY, SIDE_PX = 7, 1024
VALIDATION, PRODUCTION = ("4_10", "4_11"), ("5_10", "5_11")
WINDOWS, DRAWS, LEVEL = 64, 50, 0.05
MOST_ALARMS = 8
"""50 draws at the level 5 % give more than 8 alarms with a probability below 0.1 %."""


def autumn(image, metres):
    """Vegetation turns from green to orange."""
    red, green, blue = image.astype(np.float32).transpose(2, 0, 1)
    leaves = (green > 1.05 * red) & (green > 1.05 * blue)
    red, green, blue = (
        np.where(leaves, new, old) for new, old in ((1.3 * green, red), (0.7 * red, green), (0.4 * blue, blue))
    )
    return np.stack([red, green, blue], -1).clip(0, 255).astype(np.uint8), metres


SHIFTS = {
    "brightness": (lambda image, metres: ((image * 1.35).clip(0, 255).astype(np.uint8), metres), "band_green"),
    "a DSM in feet": (lambda image, metres: (image, metres * np.float32(3.2808)), "height"),
    "season": (autumn, "band_blue"),
}


class City:
    """Tiles of the city, a network with random weights, and the reference of the validation tiles."""

    def __init__(self, folder) -> None:
        torch.manual_seed(0)
        args = {"patch_size": 8, "img_size": 64}
        network = MoBaNet(MoBaNetConfig(backbone="test_vit", backbone_args=args, decoder_channels=16, aux_heads=False))
        self.facts = replace(toy_facts(network.config), window_px=128)
        self.model = folder / "model.safetensors"
        save_model(self.model, network.eval(), self.facts)
        self.scenes = {tile: make_scene(CITY, tile, SIDE_PX) for tile in (*VALIDATION, *PRODUCTION)}
        tiles = [self.tile(tile) for tile in VALIDATION]
        (folder / "reference.json").write_text(json.dumps(reference(network, self.facts, tiles)))
        self.reference = read_reference(folder / "reference.json", self.facts)

    def tile(self, name, change=lambda image, metres: (image, metres)) -> Tile:
        scene = self.scenes[name]
        image_HWC, metres_HW = change(scene.image_HW3, scene.dsm_HW)
        dsm_HW = scaled(metres_HW, self.facts.heights, self.facts.gsd_m)
        return Tile(image_HWC, dsm_HW, scene.label_HW, scene.label_HW)

    def windows(self, places, *change) -> list[WindowPixels]:
        tiles = [self.tile(name, *change) for name in PRODUCTION]
        parts = [(tiles[place.raster], place.pixels(self.reference.window_px)) for place in places]
        return [window_of(tile.image_HWC[part], tile.dsm_HW[part], self.facts) for tile, part in parts]

    def counted(self, windows):
        with open_model(str(self.model), torch.device("cpu"), None, "float32") as predictor:
            return count_all(windows, self.facts, lambda window: logits_of(predictor, window))

    def drifted(self, fine, seed):
        areas = len(PRODUCTION) * (SIDE_PX // self.reference.area_px) ** 2
        found = verdicts(self.reference, fine, areas, Tolerance(0.0, 0.0, LEVEL, seed))
        return {verdict.name for verdict in found if verdict.drifted}


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    return City(tmp_path_factory.mktemp("city"))


def places(city, seed):
    return list(
        islice(shuffled_places([(SIDE_PX, SIDE_PX)] * len(PRODUCTION), city.reference.window_px, seed), WINDOWS)
    )


def test_other_tiles_of_the_city_give_alarms_at_most_at_the_stated_level(city):
    drawn = [places(city, seed) for seed in range(DRAWS)]
    distinct = sorted({place for one in drawn for place in one})
    fine = city.counted(city.windows(distinct))
    alarms = 0
    for seed, one in enumerate(drawn):
        rows = [distinct.index(place) for place in one]
        alarms += bool(city.drifted({name: counts[rows] for name, counts in fine.items()}, seed))
    assert alarms <= MOST_ALARMS


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_is_found_in_every_draw(name, city):
    change, quantity = SHIFTS[name]
    for seed in range(3):
        assert quantity in city.drifted(city.counted(city.windows(places(city, seed), change)), seed)
