"""components/common/scoring/metrics.py: hand-counted matrices and scores."""

import json
import math

import numpy as np
import pytest

from components.common.scoring.metrics import as_json, scores

CLASSES, IN_MEANS = ("road", "roof", "grass"), (True, True, False)


def test_without_a_counted_pixel_no_score_is_defined() -> None:
    result = scores(np.zeros((3, 3), np.int64), CLASSES, IN_MEANS)
    assert math.isnan(result.oa) and math.isnan(result.miou) and result.worst_class is None


def test_scores_are_those_counted_by_hand() -> None:
    # road: 6 of 10 found, 2 false. roof: 7 of 8 found, 3 false. grass: 1 of 2 found, 1 false.
    result = scores(np.array([[6, 3, 1], [1, 7, 0], [1, 0, 1]]), CLASSES, IN_MEANS)
    assert result.oa == pytest.approx(100 * 14 / 20)
    iou, f1 = (100 * 6 / 12, 100 * 7 / 11, 100 * 1 / 3), (100 * 12 / 18, 100 * 14 / 18, 100 * 2 / 4)
    assert [c.iou for c in result.per_class.values()] == pytest.approx(iou)
    assert [c.f1 for c in result.per_class.values()] == pytest.approx(f1)
    assert [c.precision for c in result.per_class.values()] == pytest.approx((75, 70, 50))
    assert [c.recall for c in result.per_class.values()] == pytest.approx((60, 87.5, 50))
    assert [c.pixels for c in result.per_class.values()] == [10, 8, 2]
    assert (result.miou, result.miou_all) == pytest.approx((sum(iou[:2]) / 2, sum(iou) / 3))
    assert (result.mf1, result.mf1_all) == pytest.approx((sum(f1[:2]) / 2, sum(f1) / 3))
    assert result.worst_class == "road"  # grass is worse, but counts in no mean


def test_a_class_that_never_occurs_is_left_out_of_the_means() -> None:
    result = scores(np.array([[4, 0, 0], [0, 0, 0], [1, 0, 3]]), CLASSES, IN_MEANS)
    assert math.isnan(result.per_class["roof"].iou) and result.per_class["roof"].pixels == 0
    assert result.miou == pytest.approx(80.0)
    assert result.miou_all == pytest.approx((80 + 75) / 2)
    assert result.worst_class == "road"


def test_a_class_predicted_where_there_is_none_scores_zero() -> None:
    result = scores(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 4]]), CLASSES, IN_MEANS)
    assert result.per_class["roof"].iou == 0.0 and math.isnan(result.per_class["roof"].recall)
    assert result.miou == pytest.approx(75 / 2)


def test_json_has_null_for_what_is_not_defined() -> None:
    content = as_json(scores(np.array([[2, 1, 0], [0, 0, 0], [0, 0, 0]]), CLASSES, IN_MEANS))
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["per_class"]["grass"] == {"iou": None, "f1": None, "precision": None, "recall": None, "pixels": 0}
    assert content["oa"] == 66.6667
