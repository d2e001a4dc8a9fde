from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from components.common.data.store import Store
from components.common.inference.windows import Windows
from pipeline.ablation.fusion_gates import gate_figures

CPU = torch.device("cpu")
WINDOWS = Windows(32, 16, 4, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class TwoStages:
    """Fixed gates: in the first stage channels of 0.2 and 0.6, in the second stage of 0.95 and 0.5."""

    config = SimpleNamespace(dgfm=True, modalities=("rgb", "dsm"))

    def gates(self, rgb, dsm):
        stages = torch.tensor([[0.2, 0.6], [0.95, 0.5]])
        batch, _, height, width = rgb.shape
        return [stage[None, :, None, None].expand(batch, 2, height // 8, width // 8) for stage in stages]


@pytest.fixture
def tiles(toy_store):
    store = Store(toy_store)
    return [store[entry] for entry in store.manifest.subset("val")]


def test_figures_are_those_of_the_gates_by_hand(tiles):
    found = gate_figures(TwoStages(), tiles, WINDOWS, CPU)
    assert found["gate_mean_1"] == pytest.approx(0.4)
    assert found["gate_std_1"] == pytest.approx(0.2)
    assert (found["gate_saturated_1"], found["gate_saturated_2"]) == pytest.approx((0, 50))
    values = torch.tensor([0.2, 0.6, 0.95, 0.5])
    assert found["gate_mean"] == pytest.approx(values.mean().item())
    assert found["gate_std"] == pytest.approx(values.std(correction=0).item(), rel=1e-4)
    assert found["gate_saturated"] == pytest.approx(25)


def test_windows_that_do_not_divide_the_tile_count_every_pixel_once(tiles, toy_network):
    torch.manual_seed(0)
    network = toy_network()
    for dgfm in network.encoder.dgfm:
        torch.nn.init.normal_(dgfm.gate[3].bias)  # a gate per channel, the same everywhere
    found = [gate_figures(network, tiles, replace(WINDOWS, window_px=side), CPU) for side in (96, 40)]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_an_untrained_gate_stands_in_the_middle_and_does_not_vary(tiles, toy_network):
    found = gate_figures(toy_network(), tiles, WINDOWS, CPU)
    assert (found["gate_mean"], found["gate_std"], found["gate_saturated"]) == pytest.approx((0.5, 0, 0), abs=1e-3)
    assert {f"gate_mean_{stage}" for stage in (1, 2, 3, 4)} <= found.keys()


@pytest.mark.parametrize("changes", [{"dgfm": False}, {"modalities": ("rgb",)}])
def test_a_network_without_gates_has_no_gate_figures(tiles, toy_network, changes):
    assert gate_figures(toy_network(**changes), tiles, WINDOWS, CPU) == {}
