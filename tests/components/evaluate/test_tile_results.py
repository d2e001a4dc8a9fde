"""components/evaluate/tile_results.py: the results of one tile."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from components.common.data.store import Store
from components.common.inference.windows import Windows
from components.common.scoring.counts import confusion
from components.evaluate.tile_results import predict_tile

CPU = torch.device("cpu")
WINDOWS = Windows(16, 12, 4, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture
def tile(make_store):
    store = Store(make_store(test=("5_10",)))
    return store[store.manifest.subset("test")[0]]


def test_windows_give_the_same_counts_as_the_whole_tile_at_once(tile, by_rule) -> None:
    whole = predict_tile(by_rule(), "5_10", tile, replace(WINDOWS, window_px=40, stride_px=40), CPU, 64)
    strips = predict_tile(by_rule(), "5_10", tile, WINDOWS, CPU, 64)
    for condition in ("rgb+dsm", "rgb", "dsm"):
        for truth in ("eroded", "full"):
            np.testing.assert_array_equal(strips.confusions[condition][truth], whole.confusions[condition][truth])
    expected_KK = confusion(
        torch.tensor(tile.label_HW), torch.tensor(tile.label_HW // 2 * 2), 6
    )  # image only: never high
    np.testing.assert_array_equal(strips.confusions["rgb"]["full"], expected_KK)


def test_thumbnails_are_layers_of_one_size(tile, by_rule) -> None:
    thumbnails = predict_tile(by_rule(), "5_10", tile, WINDOWS, CPU, 20).thumbnails
    np.testing.assert_array_equal(thumbnails.label_hw, tile.label_HW[1::2, 1::2])
    np.testing.assert_array_equal(thumbnails.predicted_hw["rgb+dsm"], thumbnails.label_hw)
    assert thumbnails.image_hw3.shape == (20, 20, 3) and thumbnails.dsm_hw.shape == thumbnails.gate_hw.shape == (20, 20)


def test_the_gate_is_where_the_network_has_it_even_in_a_tile_smaller_than_a_window(tile, by_rule) -> None:
    gate_HW = predict_tile(by_rule(), "5_10", tile, replace(WINDOWS, window_px=48), CPU, 64).thumbnails.gate_hw
    assert gate_HW.shape == (40, 40)
    np.testing.assert_allclose(gate_HW[:, :16], 0.5)
    np.testing.assert_allclose(gate_HW[:, 24:], 0.25)


def test_a_network_without_gates_has_no_gate_picture(tile, by_rule) -> None:
    network = by_rule(modalities=("rgb",))
    assert predict_tile(network, "5_10", tile, WINDOWS, CPU, 64).thumbnails.gate_hw is None
