"""components/common/scoring/metrics.py: hand-counted matrices and scores."""

import json
import math

import numpy as np
import pytest

from components.common.scoring.metrics import as_json, confusion, scores

CLASSES, IN_MEANS = ("road", "roof", "grass"), (True, True, False)


def test_rows_are_the_truth_and_ignored_pixels_are_not_counted() -> None:
    truth = np.array([[0, 0, 1], [2, 255, 1]], np.uint8)
    predicted = np.array([[0, 1, 1], [0, 1, 1]], np.uint8)
    assert confusion(truth, predicted, 3).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_matrices_of_strips_add_up_to_the_matrix_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(np.array([0, 1, 2, 255], np.uint8), (37, 11))
    predicted = rng.integers(0, 3, (37, 11)).astype(np.uint8)
    strips = [confusion(truth[top : top + 5], predicted[top : top + 5], 3) for top in range(0, 37, 5)]
    np.testing.assert_array_equal(sum(strips), confusion(truth, predicted, 3))


def test_a_map_of_many_chunks_is_counted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    truth, predicted = (rng.integers(0, 3, (40, 9)).astype(np.uint8) for _ in range(2))
    at_once = confusion(truth, predicted, 3)
    monkeypatch.setattr("components.common.scoring.metrics.CHUNK_PX", 7)
    np.testing.assert_array_equal(confusion(truth, predicted, 3), at_once)


def test_nothing_but_ignored_pixels_counts_nothing() -> None:
    ignored = np.full((4, 4), 255, np.uint8)
    result = scores(confusion(ignored, np.zeros((4, 4), np.uint8), 3), CLASSES, IN_MEANS)
    assert math.isnan(result.oa) and math.isnan(result.miou) and result.worst_class is None


@pytest.mark.parametrize(("truth", "predicted"), [(3, 0), (0, 3), (0, -1)])
def test_a_value_that_is_no_class_is_refused(truth: int, predicted: int) -> None:
    with pytest.raises(ValueError, match="of 3 classes"):
        confusion(np.array([truth], np.uint8), np.array([predicted]), 3)


def test_maps_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="truth is"):
        confusion(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 3)


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
