"""components/common/scoring/gates.py: maps and statistics of gates by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from components.common.data.store import Store
from components.common.inference.windows import Windows
from components.common.scoring.conditions import bands, confusions
from components.common.scoring.gates import GateMap, GateStatistics

CPU = torch.device("cpu")
WINDOWS = Windows(32, 16, 4, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture
def store(toy_store):
    return Store(toy_store)


def statistics(network, store, windows=WINDOWS):
    gates = GateStatistics()
    confusions(network, store, store.manifest.subset("val"), windows, CPU, truths=(), gates=gates)
    return gates.figures()


def test_statistics_are_those_of_the_gates_by_hand():
    gates, stages = GateStatistics(), torch.tensor([[0.2, 0.6], [0.95, 0.5]])
    maps = gates.maps([stage[None, :, None, None].expand(1, 2, 3, 5) for stage in stages])
    gates.add(maps[0, :, :2])
    gates.add(maps[0, :, 2:])
    found = gates.figures()
    assert found["gate_mean_1"] == pytest.approx(0.4)
    assert found["gate_std_1"] == pytest.approx(0.2)
    assert (found["gate_saturated_1"], found["gate_saturated_2"]) == pytest.approx((0, 50))
    values = stages.flatten()
    assert found["gate_mean"] == pytest.approx(values.mean().item())
    assert found["gate_std"] == pytest.approx(values.std(correction=0).item(), rel=1e-4)
    assert found["gate_saturated"] == pytest.approx(25)


def test_the_map_is_the_mean_over_stages_and_channels():
    gate = GateMap()
    low, high = torch.full((1, 4, 2, 3), 0.2), torch.full((1, 4, 2, 3), 0.6)
    gate.add(gate.maps([low, high])[0])
    gate.add(torch.empty(0, 2, 3))  # a condition without gates
    assert gate.map_HW.shape == (2, 3)
    assert gate.map_HW == pytest.approx(0.4)


def test_a_map_does_not_keep_the_logits_in_memory():
    gate, band = GateMap(), torch.zeros(7, 2, 3)
    gate.add(band[6:])
    band += 1
    assert not gate.map_HW.any()


def test_windows_that_do_not_divide_the_tile_count_every_pixel_once(store, toy_network):
    torch.manual_seed(0)
    network = toy_network()
    for dgfm in network.encoder.dgfm:
        torch.nn.init.normal_(dgfm.gate[3].bias)  # a gate per channel, the same everywhere
    found = [statistics(network, store, replace(WINDOWS, window_px=side)) for side in (96, 40)]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_an_untrained_gate_stands_in_the_middle_and_does_not_vary(store, toy_network):
    found = statistics(toy_network(), store)
    assert (found["gate_mean"], found["gate_std"], found["gate_saturated"]) == pytest.approx((0.5, 0, 0), abs=1e-3)
    assert {f"gate_mean_{stage}" for stage in (1, 2, 3, 4)} <= found.keys()


@pytest.mark.parametrize("changes", [{"dgfm": False}, {"modalities": ("rgb",)}])
def test_a_network_without_gates_has_no_gate_figures(store, toy_network, changes):
    assert statistics(toy_network(**changes), store) == {}


def test_gates_come_from_the_pass_of_the_logits(store, toy_network, monkeypatch):
    network, tile = toy_network(), store[store.manifest.subset("val")[0]]
    passes, forward = [], network.encoder.forward

    def counting(rgb, dsm, *others):
        passes.append(len(rgb if rgb is not None else dsm))
        return forward(rgb, dsm, *others)

    monkeypatch.setattr(network.encoder, "forward", counting)
    gate = GateMap()
    for band in bands(network, tile, replace(WINDOWS, stride_px=32), CPU, gates=gate):
        gate.add(band.gates_GhW)
    assert sum(passes) == 3 * 9  # three conditions, nine windows, and no fourth pass
    assert gate.map_HW.shape == (96, 96)
