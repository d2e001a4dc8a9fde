"""components/common/uncertainty/intervals.py: how often an interval covers the true score."""

from __future__ import annotations

import numpy as np
import pytest

from components.common.scoring.balance import balance
from components.common.scoring.metrics import scores
from components.common.uncertainty import resampling
from components.common.uncertainty.intervals import Difference, intervals
from tests.components.common.uncertainty.known_city import CONDITIONS, K, blocks, true_scores

CLASSES = tuple("01234")
IN_MEANS = (True, True, True, True, False)
HEADLINE = ("miou/rgb+dsm", "miou/rgb", "miou/dsm", "expected_miou", "rgb+dsm - rgb", "rgb+dsm - dsm", "rgb - dsm")


def made(counts, grids, samples=400, **changes):
    known = {"level": 0.95, "samples": samples, "block_px": 32} | changes
    return intervals(counts, grids, CLASSES, IN_MEANS, 0.1, **known)


def bounds(found) -> dict[str, tuple[float, float]]:
    return found.figures | {name: (d.low, d.high) for name, d in found.differences.items()}


def covered(sets: int, samples: int, pixels: int = 2_000_000, **city: float) -> dict[str, float]:
    """Percent of the data sets in which the interval of each figure covers the true score."""
    truth = true_scores(0.1, pixels)
    hits = dict.fromkeys(truth, 0)
    for seed in range(sets):
        found = bounds(made(*blocks(seed, **city), samples))
        assert found.keys() == truth.keys()
        for name, (low, high) in found.items():
            hits[name] += low <= truth[name] <= high
    return {name: 100 * count / sets for name, count in hits.items()}


def test_intervals_cover_the_true_scores():
    found = covered(60, 200, 500_000, side_px=96)
    assert 88 <= np.mean([found[name] for name in HEADLINE]) <= 99
    assert 88 <= np.mean(list(found.values())) <= 99


@pytest.mark.system
@pytest.mark.parametrize("city", [{}, {"side_px": 192}, {"length_px": 4.0, "side_px": 192}], ids=str)
def test_intervals_of_95_percent_cover_the_true_scores_in_92_to_98_of_100_data_sets(city):
    found = covered(200, 1000, **city)
    print(city, {name: found[name] for name in HEADLINE}, np.mean(list(found.values())))
    assert 92 <= np.mean(list(found.values())) <= 98
    assert 92 <= np.mean([found[name] for name in HEADLINE]) <= 98
    assert min(found[name] for name in HEADLINE) >= 89  # one figure alone: 200 sets are exact to 3 points


def test_a_figure_of_all_blocks_lies_in_its_interval_and_the_same_counts_give_the_same_intervals():
    counts, grids = blocks(7)
    found = made(counts, grids)
    assert found == made(counts, grids)
    assert (found.blocks, found.samples, found.level, found.block_px) == (32, 400, 0.95, 32)
    assert 3 <= found.independent <= 32
    scored = {name: scores(counts_NKK.sum(axis=0), CLASSES, IN_MEANS) for name, counts_NKK in counts.items()}
    for name, of in scored.items():
        for figure in ("miou", "oa", "mf1"):
            low, high = found.figures[f"{figure}/{name}"]
            assert low < getattr(of, figure) < high
    for name, difference in found.differences.items():
        one, other = name.split(" - ")
        assert difference.value == pytest.approx(scored[one].miou - scored[other].miou)
        assert difference.low < difference.value < difference.high


def test_a_resample_gives_the_figures_of_its_blocks(monkeypatch):
    counts, grids = blocks(3)
    drawn = []

    def first_blocks(counts_NV, chosen, samples):
        drawn.append(chosen)
        yield np.repeat(counts_NV[:5].sum(axis=0)[None], samples, axis=0)

    monkeypatch.setattr(resampling, "resampled", first_blocks)
    found = made(counts, grids)
    scored = {name: scores(counts_NKK[:5].sum(axis=0), CLASSES, IN_MEANS) for name, counts_NKK in counts.items()}
    for name, of in scored.items():
        assert found.figures[f"miou/{name}"] == pytest.approx((of.miou, of.miou))
        assert found.figures[f"mf1/{name}"] == pytest.approx((of.mf1, of.mf1))
        assert found.figures[f"iou/{name}/4"] == pytest.approx((of.per_class["4"].iou,) * 2)
    both, rgb, dsm = (of.miou for of in scored.values())
    assert found.differences["rgb - dsm"].high == pytest.approx(rgb - dsm)
    expected = balance(both, rgb, dsm, 0.0, 0.1).expected_miou
    assert found.figures["expected_miou"] == pytest.approx((expected, expected))
    assert drawn == [round(found.independent) - 1]


def test_conditions_are_compared_on_the_same_resamples():
    counts, grids = blocks(1)
    found = made({"rgb+dsm": counts["rgb"], "rgb": counts["rgb"]}, grids)
    assert found.differences == {"rgb+dsm - rgb": Difference(0.0, 0.0, 0.0)}
    assert found.figures["miou/rgb"] == found.figures["miou/rgb+dsm"] and "expected_miou" not in found.figures


def test_a_difference_uses_the_blocks_of_both_conditions():
    counts, grids = blocks(2)
    without = {name: counts_NKK.copy() for name, counts_NKK in counts.items()}
    without["rgb+dsm"][16:] = without["dsm"][16:] = 0  # the second tile has no DSM
    found = made(without, grids)
    halves = [scores(counts[name][:16].sum(axis=0), CLASSES, IN_MEANS).miou for name in ("rgb+dsm", "rgb")]
    assert found.differences["rgb+dsm - rgb"].value == pytest.approx(halves[0] - halves[1])
    low, high = found.figures["miou/rgb"]
    assert low < scores(counts["rgb"].sum(axis=0), CLASSES, IN_MEANS).miou < high and found.blocks == 32


def test_a_figure_of_few_blocks_has_no_interval_however_many_the_other_conditions_have():
    counts, grids = blocks(2)
    counts = {name: counts_NKK[:20].copy() for name, counts_NKK in counts.items()}
    grids = [(1, 1), (1, 19)]
    counts["rgb+dsm"][1:] = counts["dsm"][1:] = 0  # 20 blocks of images, and one with a DSM
    found = made(counts, grids)
    with_interval = {name for name, ends in found.figures.items() if ends}
    assert with_interval == {name for name in found.figures if name.split("/")[1:2] == ["rgb"]} and with_interval
    alone = made({"rgb": counts["rgb"]}, grids)
    assert found.figures["miou/rgb"] == alone.figures["miou/rgb"] and found.blocks == 20
    assert found.figures["expected_miou"] is None
    for name, difference in found.differences.items():
        of = [scores(counts[n][0], CLASSES, IN_MEANS).miou for n in name.split(" - ")]
        assert difference.value == pytest.approx(of[0] - of[1]) and difference.low is difference.high is None


def test_an_interval_has_the_width_of_the_blocks_of_its_own_condition():
    counts, grids = blocks(3)
    counts = {name: counts_NKK.copy() for name, counts_NKK in counts.items()}
    counts["rgb+dsm"][16:] = counts["dsm"][16:] = 0
    found = made(counts, grids)
    half = made({name: counts_NKK[:16] for name, counts_NKK in counts.items()}, grids[:1])
    assert found.figures["miou/rgb+dsm"] == pytest.approx(half.figures["miou/rgb+dsm"])
    assert found.differences["rgb+dsm - dsm"] == half.differences["rgb+dsm - dsm"]


def test_a_class_in_one_block_has_no_interval_and_one_in_few_blocks_a_wider_one(monkeypatch):
    counts, grids = blocks(5)

    def only_in(number: int, k: int = 4) -> dict:
        kept = {name: counts_NKK.copy() for name, counts_NKK in counts.items()}
        for counts_NKK in kept.values():
            counts_NKK[number:, k] = counts_NKK[number:, :, k] = 0
        return kept

    one, ten = made(only_in(1), grids), made(only_in(10), grids)
    assert one.figures["iou/rgb/4"] is None and one.figures["iou/rgb/3"] and one.figures["miou/rgb"]
    of_blocks = resampling._tail
    monkeypatch.setattr(resampling, "_tail", lambda independent, level: of_blocks(ten.independent, level))
    as_if_in_all = made(only_in(10), grids)
    (low, high), (above, below) = ten.figures["iou/rgb/4"], as_if_in_all.figures["iou/rgb/4"]
    assert low < above < below < high
    assert ten.figures["iou/rgb/3"] == as_if_in_all.figures["iou/rgb/3"]  # it is in all blocks


def test_what_is_not_defined_has_no_interval():
    counts, grids = blocks(4)
    counts = {name: np.pad(counts_NKK, ((0, 0), (0, 1), (0, 1))) for name, counts_NKK in counts.items()}
    classes, in_means = (*CLASSES, "never"), (*IN_MEANS, True)
    known = {"level": 0.9, "samples": 100, "block_px": 32}
    found = intervals(counts, grids, classes, in_means, 0.1, **known)
    assert found.figures["iou/rgb/never"] is None
    plain = intervals({n: c[:, :K, :K] for n, c in counts.items()}, grids, CLASSES, IN_MEANS, 0.1, **known)
    assert found.figures["miou/rgb"] == plain.figures["miou/rgb"]
    few = made({name: counts_NKK[:7] for name, counts_NKK in blocks(4)[0].items()}, [(1, 7)])
    assert set(few.figures.values()) == {None} and few.differences["rgb - dsm"].low is None
    empty = made({name: np.zeros((4, K, K), np.int64) for name in CONDITIONS}, [(2, 2)])
    assert empty.blocks == 0 and empty.differences["rgb - dsm"] == Difference(None, None, None)


def test_a_narrower_level_gives_narrower_intervals():
    counts, grids = blocks(5)
    wide, narrow = (made(counts, grids, level=level).figures["miou/rgb"] for level in (0.95, 0.5))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_alike_neighbours_are_worth_fewer_independent_blocks():
    counts, grids = blocks(6, side_px=256)
    alike = {
        name: np.repeat(c.reshape(2, 8, 8, K, K)[:, ::2, ::2], 2, axis=1).repeat(2, axis=2)
        for name, c in counts.items()
    }
    alike = {name: c.reshape(-1, K, K) for name, c in alike.items()}  # each block four times, as its own neighbour
    assert made(alike, grids).independent == pytest.approx(128 / 4, rel=0.25)
    assert made(counts, grids).independent > 90
