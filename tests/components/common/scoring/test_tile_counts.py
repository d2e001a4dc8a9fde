"""components/common/scoring/tile_counts.py: every count of a tile against plain NumPy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from components.common.data.datasets import IGNORE
from components.common.data.store import Store
from components.common.inference.windows import Windows
from components.common.scoring.boundary import Outlines
from components.common.scoring.gates import GateMap
from components.common.scoring.tile_counts import Counted, block_shape, score_tile

CPU = torch.device("cpu")
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
WINDOWS = Windows(32, 20, 4, 8, MEAN, STD)
TEMPERATURES = {"rgb+dsm": 0.4, "rgb": 2.5}


@pytest.fixture
def tile(toy_store):
    """A tile that windows do not divide, with a hole in its DSM."""
    store = Store(toy_store)
    whole = store[store.manifest.subset("val")[0]]
    part = (slice(0, 70), slice(0, 91))
    layers = {name: getattr(whole, name)[part].copy() for name in ("image_HWC", "dsm_HW", "label_HW", "eroded_HW")}
    layers["dsm_HW"][30:50, 10:40] = np.nan
    return dataclasses.replace(whole, **layers)


@pytest.fixture
def network(toy_network):
    network = toy_network()
    torch.manual_seed(5)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    return network


def starts(size, side, stride):
    last = max(0, size - side)
    return sorted({*range(0, last, stride), last})


def reference(network, tile):
    """Mean logits by condition and the mean gate, window by window, in float64."""
    height, width = tile.label_HW.shape
    image = (tile.image_HWC.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    sums = {name: np.zeros((6, height, width)) for name in ("rgb+dsm", "rgb", "dsm")}
    gate, times = np.zeros((height, width)), np.zeros((height, width))
    for top in starts(height, 32, 20):
        for left in starts(width, 32, 20):
            part = (slice(top, top + 32), slice(left, left + 32))
            rgb = torch.tensor(image[part]).permute(2, 0, 1)[None]
            dsm = torch.tensor(tile.dsm_HW[part])[None, None]
            with torch.no_grad():
                fused, gates = network.forward_with_gates(rgb, dsm)
                found = {"rgb+dsm": fused, "rgb": network(rgb, None), "dsm": network(None, dsm)}
            for name, logits in found.items():
                sums[name][:, *part] += logits[0].double().numpy()
            cells = np.mean([stage[0].mean(0).double().numpy() for stage in gates], axis=0)
            gate[part] += cells.repeat(8, axis=0).repeat(8, axis=1)
            times[part] += 1
    return {name: total / times for name, total in sums.items()}, gate / times


def histogram(logits, truth, temperature):
    """Pixels, summed confidence and correct pixels of 15 bins."""
    scaled = np.exp((logits - logits.max(0)) / temperature)
    confidence, correct = (scaled / scaled.sum(0)).max(0), logits.argmax(0) == truth
    found = np.zeros((15, 3))
    for index in range(15):
        inside = (truth != IGNORE) & (confidence > index / 15) & (confidence <= (index + 1) / 15)
        found[index] = inside.sum(), confidence[inside].sum(), (inside & correct).sum()
    return found


def matrix(truth, predicted):
    found = np.zeros((6, 6), np.int64)
    known = truth != IGNORE
    np.add.at(found, (truth[known], predicted[known]), 1)
    return found


def test_every_count_equals_an_independent_computation(network, tile):
    gate, seen = GateMap(), {}
    counted = Counted(block_px=30, boundary_px=2, temperature=TEMPERATURES)
    found = score_tile(
        network, tile, WINDOWS, CPU, counted, gates=gate, visit=lambda name, map_HW: seen.update({name: map_HW})
    )
    logits, mean_gate = reference(network, tile)
    assert list(found) == ["rgb+dsm", "rgb", "dsm"]
    np.testing.assert_allclose(gate.map_HW, mean_gate, atol=1e-5)
    edges_y, edges_x = [0, 30, 70], [0, 30, 60, 91]  # 70 is two blocks, 91 is three
    for name, mean_KHW in logits.items():
        predicted = mean_KHW.argmax(0).astype(np.uint8)
        np.testing.assert_array_equal(seen[name].numpy(), predicted)
        for truth_name, truth in (("eroded", tile.eroded_HW), ("full", tile.label_HW)):
            blocks = [
                matrix(truth[y0:y1, x0:x1], predicted[y0:y1, x0:x1])
                for y0, y1 in zip(edges_y, edges_y[1:], strict=False)
                for x0, x1 in zip(edges_x, edges_x[1:], strict=False)
            ]
            np.testing.assert_array_equal(found[name].blocks[truth_name], blocks)
            np.testing.assert_array_equal(found[name].confusions[truth_name], matrix(truth, predicted))
        outlines = Outlines(torch.tensor(tile.label_HW), 6, 2).counts(torch.tensor(predicted))
        np.testing.assert_array_equal(found[name].boundary_K2, outlines)
        for histograms, temperature in zip(found[name].calibration, (1, TEMPERATURES.get(name, 1)), strict=True):
            expected = histogram(mean_KHW, tile.eroded_HW, temperature)
            assert abs(histograms[:, [0, 2]] - expected[:, [0, 2]]).sum() <= 4  # rounding at the edge of a bin
            np.testing.assert_allclose(histograms.sum(0), expected.sum(0), rtol=1e-4)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_batch_size_changes_nothing(network, tile, batch):
    counted = Counted(block_px=30, boundary_px=2, temperature={})
    one = score_tile(network, tile, WINDOWS, CPU, counted)
    other = score_tile(network, tile, dataclasses.replace(WINDOWS, batch_size=batch), CPU, counted)
    for name, counts in one.items():
        assert np.array_equal(counts.blocks["full"], other[name].blocks["full"])
        assert np.array_equal(counts.boundary_K2, other[name].boundary_K2)
        np.testing.assert_allclose(counts.calibration, other[name].calibration, atol=1e-3)


def test_only_what_is_wanted_is_counted(network, tile):
    (counts,) = score_tile(network, tile, WINDOWS, CPU, Counted(truths=("eroded",)), names=("rgb",)).values()
    assert list(counts.blocks) == ["eroded"] and counts.blocks["eroded"].shape == (1, 6, 6)
    assert counts.boundary_K2 is None and counts.calibration is None


def test_a_tile_without_an_image_is_scored_by_its_dsm_only(network, tile):
    alone = dataclasses.replace(tile, image_HWC=np.zeros_like(tile.image_HWC), sensors=("dsm",))
    (found,) = score_tile(network, alone, WINDOWS, CPU).values()
    assert np.array_equal(found.blocks["full"], score_tile(network, tile, WINDOWS, CPU)["dsm"].blocks["full"])


@pytest.mark.parametrize(
    ("side", "expected"), [(1024, 4), (100, 1), (256, 1), (383, 1), (384, 2), (600, 2), (6000, 23), (1, 1)]
)
def test_an_edge_of_half_a_block_or_more_is_a_block(side, expected):
    assert block_shape(side, 256, 256) == (expected, 1)
    assert block_shape(256, side, 256) == (1, expected)


def test_a_label_that_is_no_class_is_an_error(network, tile):
    tile.label_HW[3, 4] = 17
    with pytest.raises(ValueError, match="class 17 in a map of 6 classes"):
        score_tile(network, tile, WINDOWS, CPU)
