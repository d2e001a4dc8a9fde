"""components/common/scoring/figures.py: one table of names, whose values come from hand-made matrices."""

import math

import numpy as np
import pytest

from components.common.scoring.figures import figures

CLASSES, IN_MEANS = ("road", "roof", "clutter"), (True, True, False)
BOTH = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 5]])
IMAGE = np.array([[5, 5, 0], [1, 9, 0], [0, 0, 5]])
DSM = np.array([[0, 10, 0], [0, 10, 0], [5, 0, 0]])

BALANCE = {
    "majority",
    "expected_miou",
    "average",
    "last_1",
    "retention_rgb",
    "retention_dsm",
    "shapley_rgb",
    "shapley_dsm",
    "imbalance",
    "fusion_gain",
}


def test_the_names_and_values_are_those_of_the_conditions() -> None:
    found = figures({"rgb+dsm": BOTH, "rgb": IMAGE, "dsm": DSM}, CLASSES, IN_MEANS, 0.1)
    named = found.by_name()
    assert named.keys() == {"miou", "oa", "mf1", "worst_class_iou", "miou_rgb", "miou_dsm"} | BALANCE
    v = [100 * (8 / 11 + 9 / 12) / 2, 100 * (5 / 11 + 9 / 15) / 2, 100 * (0 + 10 / 20) / 2]
    assert [named[name] for name in ("miou", "miou_rgb", "miou_dsm")] == pytest.approx(v)
    assert named["oa"] == pytest.approx(100 * 22 / 25)
    assert named["worst_class_iou"] == pytest.approx(100 * 8 / 11)
    expected = (0.81 * v[0] + 0.09 * (v[1] + v[2])) / 0.99
    assert named["expected_miou"] == found.expected_miou == pytest.approx(expected)


def test_a_network_of_one_sensor_has_no_balance_and_expects_its_own_miou() -> None:
    found = figures({"dsm": DSM}, CLASSES, IN_MEANS, 0.1)
    assert found.balance is None
    assert found.by_name().keys() == {"miou", "oa", "mf1", "worst_class_iou"}
    assert found.expected_miou == found.by_name()["miou"] == pytest.approx(25)


def test_two_conditions_without_the_one_with_both_sensors_have_no_balance() -> None:
    found = figures({"rgb": IMAGE, "dsm": DSM}, CLASSES, IN_MEANS, 0.1)
    assert found.balance is None and list(found.scores) == ["rgb", "dsm"]


def test_without_a_counted_class_there_is_no_worst_class() -> None:
    named = figures({"rgb": np.zeros((3, 3), np.int64)}, CLASSES, IN_MEANS, 0.1).by_name()
    assert named.keys() == {"miou", "oa", "mf1"} and all(map(math.isnan, named.values()))
