"""components/evaluate/trust.py: intervals, boundary IoU and calibration from the counts of tiles."""

from math import e, exp, log
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components.common.data.store import Store
from components.common.inference.windows import Windows
from components.common.scoring.tile_counts import ConditionCounts
from components.common.uncertainty.temperature import fit_temperatures
from components.evaluate.config import EvaluateConfig, IntervalsConfig
from components.evaluate.record import comparable_metrics
from components.evaluate.step import run
from components.evaluate.trust import boundaries, score_intervals

CONFIG = EvaluateConfig(
    window_px=16,
    stride_px=16,
    batch_size=8,
    failure_probability=0.2,
    panel_px=64,
    intervals=IntervalsConfig(samples=200, level=0.9, block_px=8),
)


def test_a_network_that_is_right_everywhere_is_certain_and_not_confident(make_store, use_network, by_rule, tmp_path):
    store = make_store()
    heat = {"rgb+dsm": 0.5, "rgb": 2.0}
    record = run(CONFIG, store, use_network(by_rule(), store, temperature=heat), tmp_path / "reports").evaluation
    assert record.intervals.blocks == 2 * 5 * 5 and record.intervals.level == 0.9
    assert record.intervals.figures["miou/rgb+dsm"] == (100, 100)
    low, high = record.intervals.figures["miou/rgb"]
    assert low < record.scores["eroded"]["rgb"].miou < high
    difference = record.intervals.differences["rgb+dsm - rgb"]
    assert (difference.value, difference.low, difference.high) == pytest.approx((75, 100 - high, 100 - low))
    fused, image, dsm = (record.calibration[name] for name in ("rgb+dsm", "rgb", "dsm"))
    assert (fused.temperature, image.temperature, dsm.temperature) == (0.5, 2.0, None)
    assert fused.ece_before == pytest.approx(1 - e / (e + 5), abs=1e-6)  # logits 1 and five times 0, always right
    assert fused.ece == pytest.approx(1 - exp(2) / (exp(2) + 5), abs=1e-6)
    assert image.ece == pytest.approx(0.5 - exp(0.5) / (exp(0.5) + 5), abs=1e-6)  # right in half of the pixels
    assert dsm.ece == dsm.ece_before
    (filled,) = [b for b in fused.bins if b.share]
    assert (filled.share, filled.accuracy) == (1, 1)
    assert record.boundary["rgb+dsm"].miou == 100 and record.boundary["rgb"].miou < 50
    numbers = comparable_metrics(record)
    assert (numbers["ece"], numbers["boundary_iou"]) == (round(fused.ece, 4), 100)
    assert numbers["miou_low"] == numbers["miou_high"] == 100
    assert numbers["miou_rgb_low"] == round(low, 4) and "expected_miou_high" in numbers


def test_temperatures_are_those_with_the_accuracy_as_confidence(make_store, by_rule):
    store = Store(make_store())
    windows = Windows(16, 12, 3, 8, (0.5,) * 3, (0.25,) * 3)
    entries = store.manifest.subset("val")
    found = fit_temperatures(by_rule().eval(), store, entries, windows, torch.device("cpu"))
    # Every seventh pixel: three of six columns are right with the image, three of five scored rows with the DSM.
    expected = {"rgb+dsm": 0.05, "rgb": 1 / log(5 * 0.5 / 0.5), "dsm": 1 / log(5 * 0.6 / 0.4)}
    assert found == pytest.approx(expected, rel=1e-2)


def counts(seed: int, k: int = 2, blocks: int = 12) -> ConditionCounts:
    rng = np.random.default_rng(seed)
    return ConditionCounts({"eroded": rng.integers(1, 50, (blocks, k, k))}, rng.integers(1, 9, (k, 2)), None)


def test_a_tile_without_a_sensor_counts_under_the_other_only():
    facts = SimpleNamespace(classes=("a", "b"), in_means=(True, True))
    tiles = [{name: counts(i) for i, name in enumerate(("rgb+dsm", "rgb", "dsm"))}, {"rgb": counts(7)}]
    entries = [SimpleNamespace(height_px=24, width_px=32)] * 2
    found = score_intervals(tiles, entries, facts, CONFIG)
    alone = score_intervals([{"rgb": tile["rgb"]} for tile in tiles], entries, facts, CONFIG)
    paired = score_intervals(tiles[:1], entries[:1], facts, CONFIG)
    assert (found.blocks, paired.blocks) == (24, 12)
    low, high = found.figures["miou/rgb"]
    assert alone.figures["miou/rgb"] == pytest.approx((low, high), abs=2)
    for name, difference in found.differences.items():
        assert difference.value == paired.differences[name].value  # on the first tile alone
    shared_K2 = tiles[0]["rgb"].boundary_K2 + tiles[1]["rgb"].boundary_K2
    iou_K = 100 * shared_K2[:, 0] / shared_K2[:, 1]
    assert boundaries(tiles, facts)["rgb"].miou == pytest.approx(iou_K.mean())
    only = tiles[0]["dsm"].boundary_K2
    assert boundaries(tiles, facts)["dsm"].per_class["a"] == pytest.approx(100 * only[0, 0] / only[0, 1])
