"""components/common/scoring/balance.py: hand-computed values of every formula, and the selection of a checkpoint."""

import math
import random

import numpy as np
import pytest

from components.common.scoring.balance import Candidate, balance, contenders, majority_miou, select


def test_every_figure_is_the_one_worked_by_hand() -> None:
    figures = balance(80.0, 70.0, 40.0, v_majority=5.0, p=0.1)
    assert figures.expected_miou == pytest.approx((0.81 * 80 + 0.09 * 110) / 0.99)  # 75.4545...
    assert figures.average == pytest.approx(190 / 3)
    assert figures.last_1 == 40.0
    assert (figures.retention_rgb, figures.retention_dsm) == pytest.approx((0.875, 0.5))
    assert (figures.shapley_rgb, figures.shapley_dsm) == pytest.approx((52.5, 22.5))
    assert figures.imbalance == pytest.approx(0.4)
    assert figures.fusion_gain == pytest.approx(10.0)


@pytest.mark.parametrize(("p", "expected"), [(0.0, 80.0), (0.5, (80 + 70 + 40) / 3)])
def test_expected_miou_runs_from_no_failure_to_the_average(p: float, expected: float) -> None:
    assert balance(80.0, 70.0, 40.0, 5.0, p).expected_miou == pytest.approx(expected)


def test_shapley_contributions_sum_to_what_was_earned() -> None:
    rng = random.Random(0)
    for _ in range(100):
        both, rgb, dsm, majority = (rng.uniform(0, 100) for _ in range(4))
        figures = balance(both, rgb, dsm, majority, 0.1)
        assert figures.shapley_rgb + figures.shapley_dsm == pytest.approx(both - majority)


def test_a_sensor_that_is_ignored_earns_nothing() -> None:
    figures = balance(78.0, 78.0, 6.0, v_majority=6.0, p=0.1)
    assert (figures.shapley_dsm, figures.imbalance, figures.fusion_gain) == (0.0, 1.0, 0.0)


def test_ratios_without_a_meaning_are_not_numbers() -> None:
    figures = balance(0.0, 0.0, 0.0, v_majority=6.0, p=0.1)
    assert all(math.isnan(x) for x in (figures.retention_rgb, figures.retention_dsm, figures.imbalance))


def test_majority_is_the_iou_of_the_commonest_class_shared_among_all() -> None:
    confusion_KK = np.array([[10, 40, 0], [5, 5, 20], [10, 0, 10]])  # truth 50, 30, 20
    assert majority_miou(confusion_KK, (True, True, True)) == pytest.approx(50 / 3)
    assert majority_miou(confusion_KK, (True, True, False)) == pytest.approx(50 / 2)
    assert majority_miou(confusion_KK, (False, True, True)) == 0.0


GUARD = 0.5


def test_within_the_guard_the_higher_expectation_wins() -> None:
    better_fused, better_expected = Candidate(1, 80.0, 60.0), Candidate(2, 79.6, 65.0)
    assert select([better_fused, better_expected], GUARD) is better_expected


def test_outside_the_guard_no_expectation_helps() -> None:
    assert select([Candidate(1, 79.4, 70.0), Candidate(2, 80.0, 60.0)], GUARD).step == 2


def test_the_guard_itself_is_within_and_zero_leaves_the_best_alone() -> None:
    history = [Candidate(1, 79.5, 70.0), Candidate(2, 80.0, 60.0)]
    assert (select(history, GUARD).step, select(history, 0.0).step) == (1, 2)


def test_of_equal_checkpoints_the_earlier_one_stays() -> None:
    history = [Candidate(5, 80.0, 60.0), Candidate(9, 80.0, 60.0), Candidate(7, 79.9, 60.0)]
    assert select(history, GUARD).step == select(history[::-1], GUARD).step == 5


def test_a_new_best_can_bring_back_an_earlier_checkpoint() -> None:
    history = [Candidate(1, 80.0, 60.0), Candidate(2, 79.6, 65.0), Candidate(3, 80.3, 55.0)]
    assert [select(history[:n], GUARD).step for n in (1, 2, 3)] == [1, 2, 1]


def test_the_choice_is_always_among_the_contenders_that_were_kept() -> None:
    rng = random.Random(1)
    for _ in range(50):
        history: list[Candidate] = []
        kept: tuple[Candidate, ...] = ()
        for step in range(30):
            history.append(Candidate(step, round(rng.uniform(79, 81), 1), round(rng.uniform(50, 60), 1)))
            kept = contenders([*kept, history[-1]], GUARD)
            assert select(history, GUARD) == kept[-1]
            assert kept == contenders(history, GUARD)


def test_a_single_modality_network_is_chosen_by_its_score_alone() -> None:
    history = [Candidate(step, v, v) for step, v in enumerate((70.0, 74.0, 73.9))]
    assert select(history, GUARD).step == 1 and contenders(history, GUARD) == (history[1],)


@pytest.mark.parametrize("broken", [(math.nan, 60.0), (math.nan, math.nan), (79.9, math.nan), (math.inf, math.inf)])
def test_a_checkpoint_without_finite_figures_is_never_selected_nor_kept(broken) -> None:
    history = [Candidate(1, 80.0, 60.0), Candidate(2, *broken), Candidate(3, 79.8, 61.0)]
    for order in (history, history[::-1]):
        assert select(order, GUARD).step == 3
        assert [c.step for c in contenders(order, GUARD)] == [1, 3]
