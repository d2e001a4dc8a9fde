from __future__ import annotations

import numpy as np
import torch

from components.common.data.store import Store
from components.common.inference.windows import Windows
from components.common.scoring.conditions import class_map, conditions, confusions
from components.common.scoring.metrics import confusion

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
            expected += confusion(store[entry].eroded_HW, class_map(store[entry], predict, WINDOWS, CPU), 6)
        assert np.array_equal(found[condition]["eroded"], expected)
        assert found[condition]["full"].sum() == 2 * 96 * 96 > expected.sum()
