"""components/common/inference/stored_crops.py: a model gives the stored logits, and another one does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from components.common.data.store import Tile
from components.common.errors import DataError, NonFiniteError
from components.common.inference.stored_crops import CropResult, run_crops, write_crops
from tests.components.conftest import toy_facts
from tests.conftest import toy_tile

SIDE_PX = 32


@pytest.fixture
def written(toy_network, tmp_path):
    """A toy network, its facts, and its crops."""

    def write(tiles=None, **changes):
        network = toy_network(**changes)
        facts, path = toy_facts(network.config), tmp_path / "crops.safetensors"
        write_crops(path, network, facts, tiles or [toy_tile("4_10", 60), toy_tile("4_11", 60)])
        return path, network, facts

    return write


def test_the_model_that_was_exported_gives_the_stored_logits_and_classes(written) -> None:
    assert run_crops(*written()) == CropResult(0.0, 0, 3 * 3 * SIDE_PX**2)


def test_the_crops_are_pixels_of_the_validation_tiles_in_turn(written) -> None:
    tiles = [toy_tile("4_10", 60), toy_tile("4_11", 60)]
    stored = load_file(written(tiles)[0])
    for index, (tile, corner) in enumerate(zip([tiles[0], tiles[1], tiles[0]], [7, 14, 21], strict=True)):
        part = np.s_[corner : corner + SIDE_PX, corner : corner + SIDE_PX]
        assert np.array_equal(stored["image"][index].numpy(), tile.image_HWC[part])
        assert np.array_equal(stored["dsm"][index].numpy(), tile.dsm_HW[part], equal_nan=True)


def test_every_condition_has_classes_of_every_pixel_and_logits_of_every_fourth(written) -> None:
    stored = load_file(written()[0])
    assert {name: tuple(values.shape) for name, values in stored.items() if name not in ("image", "dsm")} == {
        f"{kind}.{condition}": shape
        for condition in ("rgb+dsm", "rgb", "dsm")
        for kind, shape in {"logits": (3, 6, 8, 8), "classes": (3, SIDE_PX, SIDE_PX)}.items()
    }
    assert not torch.equal(stored["logits.rgb"], stored["logits.rgb+dsm"])


def test_a_crop_in_which_no_height_was_measured_is_computed_without_the_dsm(written) -> None:
    tiles = [toy_tile("4_10", 60), toy_tile("4_11", 60)]
    tiles[1].dsm_HW[:] = np.nan
    stored = load_file(written(tiles, missing="excluded", batch_norm="per-condition")[0])
    same = [torch.equal(*(stored[f"logits.{name}"][i] for name in ("rgb+dsm", "rgb"))) for i in range(3)]
    assert same == [False, True, False] and stored["logits.dsm"].isfinite().all()


def test_without_a_sensor_the_network_gets_none(written) -> None:
    path, network, facts = written()
    stored = load_file(path)
    image_CHW = stored["image"][:1].movedim(-1, 1).float() / 255
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (facts.image_mean, facts.image_std))
    with torch.inference_mode():
        logits = network((image_CHW - mean) / std, None)
    torch.testing.assert_close(stored["logits.rgb"][:1], logits[..., ::4, ::4], atol=1e-5, rtol=0)


@pytest.mark.parametrize("modality", ["rgb", "dsm"])
def test_a_network_of_one_sensor_has_one_condition(written, modality) -> None:
    path, network, facts = written(modalities=(modality,))
    assert {name for name in load_file(path) if "." in name} == {f"logits.{modality}", f"classes.{modality}"}
    assert run_crops(path, network, facts).total_px == 3 * SIDE_PX**2


def test_a_tile_smaller_than_a_window_is_filled_up_without_heights(written) -> None:
    path, network, facts = written([toy_tile("4_10", 20)])
    assert load_file(path)["dsm"][:, 20:].isnan().all()
    assert run_crops(path, network, facts).changed_px == 0


def test_other_weights_change_logits_and_classes(written) -> None:
    path, network, facts = written()
    weight = network.decoder.classifier[-1].weight
    with torch.no_grad():
        weight += 1e-4
        slightly = run_crops(path, network, facts)
        weight.copy_(weight.roll(1, 0))  # every pixel gets the class that follows its own
        other = run_crops(path, network, facts)
    assert 0 < slightly.largest_difference < other.largest_difference
    assert other.changed_px == other.total_px


def test_logits_that_are_not_finite_are_an_infinite_difference_and_are_not_stored(written, tmp_path) -> None:
    path, network, facts = written()
    with torch.no_grad():
        next(network.decoder.parameters()).fill_(math.nan)
    assert run_crops(path, network, facts).largest_difference == math.inf
    with pytest.raises(NonFiniteError, match=r"NaN or infinite for a validation tile \(rgb\+dsm\); train again"):
        write_crops(tmp_path / "new.safetensors", network, facts, [toy_tile("4_10", 60)])


def test_a_file_that_cannot_be_used_is_one_sentence(written, tmp_path) -> None:
    path, network, facts = written()
    stored = load_file(path)
    for name, content in {
        "gone": None,
        "damaged": b"nothing",
        "other": {key: values for key, values in stored.items() if key != "logits.rgb"},
    }.items():
        file = tmp_path / f"{name}.safetensors"
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif content is not None:
            save_file(content, file)
        with pytest.raises(DataError, match=rf"{name}\.safetensors: missing, damaged or of another network"):
            run_crops(file, network, facts)


def test_crops_of_equal_tiles_have_equal_bytes(written) -> None:
    path, network, facts = written()
    before = path.read_bytes()
    tiles = [Tile(*(layer.copy() for layer in _layers(toy_tile(name, 60)))) for name in ("4_10", "4_11")]
    write_crops(path, network, facts, tiles)
    assert path.read_bytes() == before


def _layers(tile):
    return tile.image_HWC, tile.dsm_HW, tile.label_HW, tile.eroded_HW
