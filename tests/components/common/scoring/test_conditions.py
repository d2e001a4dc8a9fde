from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components.common.data.store import Store, Tile, map_tile
from components.common.errors import NonFiniteError
from components.common.inference.windows import Windows, parts
from components.common.scoring.conditions import bands, class_maps, conditions, confusions, tiles_by_condition
from components.common.scoring.counts import confusion
from components.common.scoring.gates import GateMap
from components.common.scoring.tile_counts import score_tile
from model.inputs import normalise

CPU = torch.device("cpu")
WINDOWS = Windows(64, 48, 4, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


ONCE = Windows(64, 64, 1, 8, WINDOWS.image_mean, WINDOWS.image_std)


def crop(tile: Tile, **changes) -> Tile:
    part = (slice(0, 64), slice(0, 64))
    layers = ("image_HWC", "dsm_HW", "label_HW", "eroded_HW")
    return dataclasses.replace(tile, **{name: getattr(tile, name)[part] for name in layers} | changes)


@pytest.fixture
def tile(toy_store):
    store = Store(toy_store)
    return store[store.manifest.subset("val")[0]]


def test_a_condition_hides_what_it_says(toy_network, tile):
    network, piece = toy_network(), crop(tile)
    (band,) = bands(network, piece, ONCE, CPU)
    image, dsm = torch.tensor(piece.image_HWC).movedim(-1, 0)[None], torch.tensor(piece.dsm_HW)[None, None]
    rgb, dsm = normalise(image, dsm, WINDOWS.image_mean, WINDOWS.image_std)
    given = {"rgb+dsm": (rgb, dsm), "rgb": (rgb, None), "dsm": (None, dsm)}
    assert list(band.logits_KhW) == list(given)
    with torch.no_grad():
        for name, inputs in given.items():
            torch.testing.assert_close(band.logits_KhW[name], network(*inputs)[0])


def test_conditions_are_those_that_the_network_supports_and_the_tile_has_the_sensors_of(toy_network):
    network = toy_network()
    assert conditions(network) == ("rgb+dsm", "rgb", "dsm")
    assert conditions(network, ("rgb",)) == ("rgb",)
    assert conditions(network, ("dsm",)) == ("dsm",)
    for sensor, other in (("rgb", "dsm"), ("dsm", "rgb")):
        single = toy_network(modalities=(sensor,))
        assert conditions(single) == conditions(single, (sensor,)) == (sensor,)
        assert conditions(single, (other,)) == ()


def test_a_window_is_predicted_once_per_condition(toy_network, tile, monkeypatch):
    network, seen = toy_network(), []
    for name in ("forward", "forward_with_gates"):
        forward = getattr(network, name)

        def counting(rgb, dsm, name=name, forward=forward):
            seen.append((name, rgb is not None, dsm is not None, len(rgb if rgb is not None else dsm)))
            return forward(rgb, dsm)

        monkeypatch.setattr(network, name, counting)
    list(bands(network, tile, WINDOWS, CPU, gates=GateMap()))
    assert sorted(set(seen)) == [
        ("forward", False, True, 4),
        ("forward", True, False, 4),
        ("forward_with_gates", True, True, 4),
    ]
    assert len(seen) == 3  # four windows, one batch


def unpaired(toy_store, monkeypatch, **sensors):
    """The store with tiles that lack a sensor."""
    store = Store(toy_store)
    entries = [
        dataclasses.replace(entry, sensors=sensors.get(f"t{entry.id}", entry.sensors))
        for entry in store.manifest.subset("val")
    ]
    monkeypatch.setattr(
        Store,
        "__getitem__",
        lambda self, entry: dataclasses.replace(map_tile(self.path / entry.file), sensors=entry.sensors),
    )
    return store, entries


def test_a_tile_without_a_sensor_counts_under_the_other_one_only(toy_network, toy_store, monkeypatch):
    network, store = toy_network(), Store(toy_store)
    first, second = store.manifest.subset("val")
    alone = {entry.id: confusions(network, store, [entry], WINDOWS, CPU) for entry in (first, second)}
    store, entries = unpaired(toy_store, monkeypatch, **{f"t{first.id}": ("rgb",)})
    found = confusions(network, store, entries, WINDOWS, CPU)
    assert np.array_equal(found["rgb+dsm"]["full"], alone[second.id]["rgb+dsm"]["full"])
    assert np.array_equal(found["dsm"]["full"], alone[second.id]["dsm"]["full"])
    assert np.array_equal(found["rgb"]["full"], alone[first.id]["rgb"]["full"] + alone[second.id]["rgb"]["full"])
    assert tiles_by_condition(network, entries) == {
        "rgb+dsm": (second.id,),
        "rgb": (first.id, second.id),
        "dsm": (second.id,),
    }


def test_a_condition_without_a_tile_is_left_out(toy_network, toy_store, monkeypatch):
    ids = [entry.id for entry in Store(toy_store).manifest.subset("val")]
    store, entries = unpaired(toy_store, monkeypatch, **{f"t{name}": ("dsm",) for name in ids})
    assert list(confusions(toy_network(), store, entries, WINDOWS, CPU)) == ["dsm"]
    assert confusions(toy_network(modalities=("rgb",)), store, entries, WINDOWS, CPU) == {}


def test_confusions_add_up_over_tiles_for_both_ground_truths(toy_network, toy_store):
    network, store = toy_network(), Store(toy_store)
    entries = store.manifest.subset("val")
    found = confusions(network, store, entries, WINDOWS, CPU)
    for condition in conditions(network):
        expected = np.zeros((6, 6), np.int64)
        for entry in entries:
            predicted = torch.from_numpy(class_maps(network, store[entry], WINDOWS, CPU)[condition])
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


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_parts_of_a_tile_add_up_to_the_tile_for_any_number_of_ranks(toy_network, toy_store, ranks):
    network, store = toy_network(), Store(toy_store)
    entries = store.manifest.subset("val")[:1]
    fine = dataclasses.replace(WINDOWS, window_px=16, stride_px=4)
    assert len(parts(entries[0].height_px, fine)) == 2
    whole = score_tile(network, store[entries[0]], fine, CPU)
    shares = [
        confusions(network, store, entries, fine, CPU, wanted=lambda job, rank=rank: job % ranks == rank)
        for rank in range(ranks)
    ]
    for name, counts in whole.items():
        for truth, matrix in counts.confusions.items():
            difference = sum(share[name][truth] for share in shares) - matrix
            assert difference.sum() == 0 and abs(difference).sum() <= 4  # rounding may move a pixel between classes


class Fixed:
    """A network that gives the same logits everywhere, except for one value."""

    patch_size = 8

    def __init__(self, at=None, value=0.0, only=None):
        self.config = SimpleNamespace(num_classes=6, modalities=("rgb", "dsm"), dgfm=True)
        self.at, self.value, self.only = at, value, only

    def __call__(self, rgb, dsm):
        given = rgb if rgb is not None else dsm
        logits = torch.zeros(len(given), 6, *given.shape[-2:])
        name = "rgb+dsm" if rgb is not None and dsm is not None else "rgb" if dsm is None else "dsm"
        if self.at is not None and name == self.only:
            logits[-1, *self.at] = self.value
        return logits

    def forward_with_gates(self, rgb, dsm):
        return self(rgb, dsm), [torch.full((len(rgb), 3, 8, 8), math.nan)] * 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [(0, 0, 0), (5, 63, 63)])
@pytest.mark.parametrize("only", ["rgb+dsm", "rgb", "dsm"])
def test_one_logit_that_is_not_finite_is_an_error_that_names_the_tile(tile, value, at, only):
    with pytest.raises(NonFiniteError) as caught:
        class_maps(Fixed(at, value, only), tile, WINDOWS, CPU, "tile 1")
    assert str(caught.value) == f"the network gives logits that are NaN or infinite for tile 1 ({only})"


def test_all_tiles_that_are_scored_are_checked(toy_network, toy_store):
    network, store = toy_network(), Store(toy_store)
    network.decoder.classifier[1].weight.data.fill_(3e38)  # finite, but products overflow
    first, second = (entry.id for entry in store.manifest.subset("val"))
    with pytest.raises(NonFiniteError, match=rf"for tile {first} \(rgb\+dsm\)"):
        confusions(network, store, store.manifest.subset("val"), WINDOWS, CPU)
    with pytest.raises(NonFiniteError, match=rf"for tile {second} \(rgb\+dsm\)"):
        confusions(network, store, store.manifest.subset("val"), WINDOWS, CPU, wanted=lambda job: job >= 1)


def test_gates_are_not_logits(tile):
    """Only the logits of the classes decide whether a prediction is usable."""
    found = list(bands(Fixed(), crop(tile), ONCE, CPU, gates=GateMap()))
    assert [(band.gates_GhW.shape[0], bool(band.gates_GhW.isnan().all())) for band in found] == [(1, True)]


def test_ties_go_to_the_first_class(tile):
    assert not any(classes.any() for classes in class_maps(Fixed(), tile, WINDOWS, CPU).values())
