from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from components.common.data.store import Store
from components.common.errors import StoreError
from components.common.inference.windows import Windows
from components.train.ranks.distributed import single_rank
from components.train.validation import pictures, selected_step, steps_in_play, validate

WINDOWS = Windows(64, 64, 4, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CPU = torch.device("cpu")
ALONE = single_rank(CPU)


def test_figures_name_every_condition_and_the_balance(toy_network, toy_store, train_config):
    figures = validate(toy_network(), Store(toy_store), WINDOWS, train_config().validation, ALONE)
    assert {"miou_fused", "miou_rgb", "miou_dsm", "expected_miou", "shapley_rgb", "shapley_dsm", "oa"} <= figures.keys()
    fused, rgb, dsm = (figures[f"miou_{name}"] for name in ("fused", "rgb", "dsm"))
    assert figures["expected_miou"] == pytest.approx((0.81 * fused + 0.09 * (rgb + dsm)) / 0.99)
    assert figures["shapley_rgb"] + figures["shapley_dsm"] == pytest.approx(fused - figures["majority"])


def test_the_columns_of_validation_csv_are_those_that_dashboards_read(toy_network, toy_store, train_config):
    figures = validate(toy_network(), Store(toy_store), WINDOWS, train_config().validation, ALONE)
    scores = {"miou_fused", "miou_rgb", "miou_dsm", "oa", "mf1", "worst_class_iou"}
    balance = {"majority", "expected_miou", "average", "last_1", "imbalance", "fusion_gain"}
    halves = {f"{name}_{sensor}" for name in ("retention", "shapley") for sensor in ("rgb", "dsm")}
    assert figures.keys() == scores | balance | halves


def test_a_single_modality_network_is_selected_by_its_own_miou(toy_network, toy_store, train_config):
    network = toy_network(modalities=("dsm",))
    figures = validate(network, Store(toy_store), WINDOWS, train_config().validation, ALONE)
    assert figures["expected_miou"] == figures["miou_dsm"]
    assert "miou_fused" not in figures and "shapley_rgb" not in figures
    assert selected_step([{"step": 4, **figures}], guard=0.5) == 4


def test_selection_can_fall_back_on_an_earlier_step_that_is_still_in_play():
    rows = [
        {"step": 1, "miou_fused": 80.0, "expected_miou": 70.0},
        {"step": 2, "miou_fused": 80.3, "expected_miou": 69.0},
        {"step": 3, "miou_fused": 80.7, "expected_miou": 68.0},
    ]
    assert [selected_step(rows[:n], guard=0.5) for n in (1, 2, 3)] == [1, 1, 2]
    assert steps_in_play(rows[:2], guard=0.5) == {1, 2}
    assert steps_in_play(rows, guard=0.5) == {2, 3}


def test_pictures_show_image_dsm_label_and_a_prediction_per_condition(toy_network, toy_store):
    shown = dict(pictures(toy_network(), Store(toy_store), WINDOWS, 1, CPU))
    assert list(shown) == ["4_10"]
    height, width, channels = shown["4_10"].shape
    assert (height, channels) == (96, 3)
    assert width > 6 * 96


def without(store, name, sensors, monkeypatch):
    """The store in which one validation tile, or all of them, have only some sensors."""
    entries = tuple(
        replace(entry, sensors=sensors) if entry.subset == "val" and name in (entry.id, "all") else entry
        for entry in store.manifest.tiles
    )
    store.manifest = replace(store.manifest, tiles=entries)
    mapped = Store.__getitem__
    monkeypatch.setattr(Store, "__getitem__", lambda self, entry: replace(mapped(self, entry), sensors=entry.sensors))
    return store


def test_a_validation_tile_without_a_dsm_counts_for_the_image_only(toy_network, toy_store, train_config, monkeypatch):
    store, network = Store(toy_store), toy_network()
    whole = validate(network, store, WINDOWS, train_config().validation, ALONE)
    found = validate(network, without(store, "4_10", ("rgb",), monkeypatch), WINDOWS, train_config().validation, ALONE)
    assert found["miou_rgb"] == whole["miou_rgb"] and found["miou_dsm"] != whole["miou_dsm"]
    height, width, _ = dict(pictures(network, store, WINDOWS, 1, CPU))["4_10"].shape
    assert (height, width) == (96, 3 * 96 + 2 * 6)  # image, label, one prediction


def test_validation_tiles_of_which_none_has_both_sensors_are_an_error(
    toy_network, toy_store, train_config, monkeypatch
):
    store = without(Store(toy_store), "all", ("rgb",), monkeypatch)
    with pytest.raises(StoreError, match="no validation tile has both an image and a DSM, so the checkpoints"):
        validate(toy_network(), store, WINDOWS, train_config().validation, ALONE)
    with pytest.raises(StoreError, match="no validation tile has a DSM"):
        validate(toy_network(modalities=("dsm",)), store, WINDOWS, train_config().validation, ALONE)
    assert "miou_rgb" in validate(toy_network(modalities=("rgb",)), store, WINDOWS, train_config().validation, ALONE)
