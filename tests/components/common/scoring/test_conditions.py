from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from components.common.data.store import Store, Tile
from components.common.errors import NonFiniteError
from components.common.inference.windows import Windows
from components.common.scoring.conditions import bands, class_map, conditions, confusions
from components.common.scoring.counts import confusion

CPU = torch.device("cpu")
WINDOWS = Windows(64, 48, 4, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_a_condition_hides_what_it_says(toy_network):
    network = toy_network()
    rgb, dsm = torch.randn(1, 3, 64, 64), torch.randn(1, 1, 64, 64)
    predict = conditions(network)
    assert list(predict) == ["rgb+dsm", "rgb", "dsm"]
    with torch.no_grad():
        torch.testing.assert_close(predict["rgb"](rgb, dsm), network(rgb, torch.zeros_like(dsm)))
        torch.testing.assert_close(predict["dsm"](rgb, dsm), network(torch.zeros_like(rgb), dsm))
        torch.testing.assert_close(predict["rgb+dsm"](rgb, dsm), network(rgb, dsm))
    assert list(conditions(toy_network(modalities=("rgb",)))) == ["rgb"]
    assert list(conditions(toy_network(modalities=("dsm",)))) == ["dsm"]


def test_confusions_add_up_over_tiles_for_both_ground_truths(toy_network, toy_store):
    network, store = toy_network(), Store(toy_store)
    entries = store.manifest.subset("val")
    found = confusions(network, store, entries, WINDOWS, CPU)
    for condition, predict in conditions(network).items():
        expected = np.zeros((6, 6), np.int64)
        for entry in entries:
            predicted = torch.from_numpy(class_map(store[entry], predict, 6, WINDOWS, CPU))
            expected += confusion(torch.tensor(store[entry].eroded_HW), predicted, 6)
        assert np.array_equal(found[condition]["eroded"], expected)
        assert found[condition]["full"].sum() == 2 * 96 * 96 > expected.sum()


def test_only_the_ground_truth_that_is_read_is_counted(toy_network, toy_store):
    network, store = toy_network(), Store(toy_store)
    entries = store.manifest.subset("val")[:1]
    both = confusions(network, store, entries, WINDOWS, CPU)
    one = confusions(network, store, entries, WINDOWS, CPU, truths=("eroded",))
    assert {name: list(by_truth) for name, by_truth in one.items()} == dict.fromkeys(both, ["eroded"])
    assert all(np.array_equal(one[name]["eroded"], both[name]["eroded"]) for name in both)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_the_jobs_of_any_number_of_ranks_add_up_to_the_same_counts(toy_network, toy_store, ranks):
    network, store = toy_network(), Store(toy_store)
    entries = store.manifest.subset("val")
    alone = confusions(network, store, entries, WINDOWS, CPU)
    shares = [
        confusions(network, store, entries, WINDOWS, CPU, wanted=lambda job, rank=rank: job % ranks == rank)
        for rank in range(ranks)
    ]
    for name, by_truth in alone.items():
        for truth, counts in by_truth.items():
            assert np.array_equal(sum(share[name][truth] for share in shares), counts)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [(0, 0, 0), (5, 95, 95)])
def test_one_logit_that_is_not_finite_is_an_error_that_names_the_tile(toy_store, value, at):
    store = Store(toy_store)
    tile = store[store.manifest.subset("val")[0]]

    def predict(rgb, dsm):
        logits = dsm.nan_to_num().expand(-1, 6, -1, -1).clone()
        logits[-1, *(min(index, 63) for index in at)] = value
        return logits

    with pytest.raises(NonFiniteError, match=r"^the network gives logits that are NaN or infinite for tile 1 \(rgb\)$"):
        class_map(tile, predict, 6, WINDOWS, CPU, "tile 1 (rgb)")


def test_all_tiles_that_are_scored_are_checked(toy_network, toy_store):
    network, store = toy_network(), Store(toy_store)
    network.decoder.classifier[1].weight.data.fill_(3e38)  # finite, but products overflow
    with pytest.raises(NonFiniteError, match=r"for tile 4_10 \(rgb\+dsm\)"):
        confusions(network, store, store.manifest.subset("val"), WINDOWS, CPU)
    with pytest.raises(NonFiniteError, match=r"for tile 4_10 \(dsm\)"):
        confusions(network, store, store.manifest.subset("val"), WINDOWS, CPU, wanted=lambda job: job >= 2)


def test_gates_are_not_logits(toy_store):
    """Large values are no error: only the logits of the classes decide."""
    store = Store(toy_store)
    tile = store[store.manifest.subset("val")[0]]
    maps = torch.cat([torch.full((1, 6, 64, 64), 3e38), torch.full((1, 4, 64, 64), math.nan)], 1)
    once = Windows(64, 64, 1, 8, WINDOWS.image_mean, WINDOWS.image_std)
    found = bands(_crop(tile), lambda rgb, dsm: maps, 6, once, CPU)
    assert [band.gates_GhW.shape[0] for band in found] == [4]


def _crop(tile: Tile) -> Tile:
    return Tile(tile.image_HWC[:64, :64], tile.dsm_HW[:64, :64], tile.label_HW[:64, :64], tile.eroded_HW[:64, :64])


def test_ties_go_to_the_first_class(toy_store):
    store = Store(toy_store)
    tile = store[store.manifest.subset("val")[0]]
    even = class_map(tile, lambda rgb, dsm: torch.zeros_like(dsm).expand(-1, 6, -1, -1), 6, WINDOWS, CPU)
    assert not even.any()
