from __future__ import annotations

import numpy as np
import pytest
import torch

from components.common.errors import DataError
from components.common.store import Store
from components.train.data import Crops, batches


@pytest.fixture
def crops(toy_store, train_config):
    store = Store(toy_store)
    return lambda **changes: Crops(store, store.manifest.subset("train"), train_config(**changes))


def test_a_crop_is_a_function_of_seed_and_index(crops):
    first, again, other = crops(), crops(), crops(seed=2)
    for index in (0, 7, 10**9):
        assert all(torch.equal(a, b) for a, b in zip(first[index], again[index], strict=True) if not a.isnan().any())
    assert not torch.equal(first[0][0], other[0][0])
    assert not torch.equal(first[0][0], first[1][0])


def test_a_crop_lies_somewhere_in_a_training_tile_layer_on_layer(crops, toy_store):
    store, (image, dsm, label) = Store(toy_store), crops(flips=False)[5]
    wanted = image.movedim(0, -1).numpy()
    found = 0
    for entry in store.manifest.subset("train"):
        tile = store[entry]
        for top, left in np.ndindex(96 - 64 + 1, 96 - 64 + 1):
            part = (slice(top, top + 64), slice(left, left + 64))
            if np.array_equal(tile.image_HWC[part], wanted):
                found += 1
                assert np.array_equal(tile.dsm_HW[part], dsm[0].numpy(), equal_nan=True)
                assert np.array_equal(tile.label_HW[part], label.numpy())
    assert found == 1


def test_flips_turn_all_layers_together(crops):
    plain, flipped = crops(flips=False), crops(flips=True)
    turned = 0
    for index in range(12):
        image, _, label = plain[index]
        image_f, _, label_f = flipped[index]
        turns = [dims for dims in ([], [-1], [-2], [-2, -1]) if torch.equal(image.flip(dims), image_f)]
        assert len(turns) == 1
        assert torch.equal(label.flip(turns[0]), label_f)
        turned += bool(turns[0])
    assert 0 < turned < 12


def test_eroded_labels_ignore_boundaries(crops):
    assert (crops(labels="eroded")[0][2] == 255).any()
    assert not (crops(labels="full")[0][2] == 255).any()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_go_on_at_any_step_with_any_number_of_workers(crops, train_config, workers):
    config = train_config(steps=4)
    whole = [b.image_BCHW for b in batches(crops(), config, 0, first_step=1)]
    rest = [b.image_BCHW for b in batches(crops(), config, workers, first_step=3)]
    assert len(whole) == 4
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_a_tile_smaller_than_a_crop_is_refused(crops):
    with pytest.raises(DataError, match=r"96 x 96 px, smaller than a crop; set train.crop_px to 96 or less"):
        crops(crop_px=97)
