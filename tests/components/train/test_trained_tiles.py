from __future__ import annotations

from dataclasses import replace

import pytest

from components.common.data.store import Store, write_manifest
from components.common.errors import StoreError
from components.train.trained_tiles import require_sensors, training_tiles

BOTH, IMAGE, DSM = ("rgb", "dsm"), ("rgb",), ("dsm",)


@pytest.fixture
def store(toy_store, tmp_path):
    """A store whose manifest says that tiles lack sensors; the pixels are not needed."""

    def make(**sensors) -> Store:
        manifest = Store(toy_store).manifest
        tiles = tuple(replace(t, sensors=sensors.get(f"t{t.id}", sensors.get(t.subset, BOTH))) for t in manifest.tiles)
        write_manifest(tmp_path, replace(manifest, tiles=tiles))
        return Store(tmp_path)

    return make


def test_a_network_learns_from_the_tiles_that_have_one_of_its_sensors(store):
    given = store(t2_10=IMAGE, t3_10=DSM)
    ids = {name: [tile.id for tile in training_tiles(given, name)] for name in (BOTH, IMAGE, DSM)}
    assert ids[BOTH] == ["2_10", "2_11", "2_12", "3_10", "3_11", "3_12"]
    assert ids[IMAGE] == ["2_10", "2_11", "2_12", "3_11", "3_12"]
    assert ids[DSM] == ["2_11", "2_12", "3_10", "3_11", "3_12"]


@pytest.mark.parametrize("modalities", [BOTH, IMAGE, DSM])
def test_tiles_with_both_sensors_and_some_without_are_accepted(store, modalities):
    require_sensors(store(), modalities)
    require_sensors(store(t2_10=IMAGE, t3_10=DSM, t4_10=IMAGE, t5_10=DSM), modalities)


@pytest.mark.parametrize(
    ("sensors", "modalities", "sentence"),
    [
        ({"train": IMAGE}, BOTH, r"no training tile has a DSM, which the network needs .*; leave it out of model\."),
        ({"train": DSM}, IMAGE, r"no training tile has an image, .* has rgb\); add the files and run acquire again"),
        ({"val": IMAGE}, BOTH, "no validation tile has an image and a DSM, so no checkpoint can be selected"),
        ({"t4_10": IMAGE, "t4_11": DSM}, BOTH, "no validation tile has an image and a DSM"),
        ({"val": IMAGE}, DSM, "no validation tile has a DSM, so"),
    ],
)
def test_a_sensor_that_no_tile_has_is_one_sentence(store, sensors, modalities, sentence):
    with pytest.raises(StoreError, match=sentence):
        require_sensors(store(**sensors), modalities)


def test_training_and_validation_tiles_may_have_both_sensors_apart(store):
    require_sensors(store(t2_10=IMAGE, t2_11=DSM, t2_12=IMAGE, t3_10=DSM, t3_11=IMAGE, t3_12=DSM), BOTH)
