"""components/common/scoring/counts.py: hand-counted matrices."""

import numpy as np
import pytest
import torch

from components.common.scoring.counts import Calibration, Counter, confusion


def test_rows_are_the_truth_and_ignored_pixels_are_not_counted() -> None:
    truth = torch.tensor([[0, 0, 1], [2, 255, 1]], dtype=torch.uint8)
    predicted = torch.tensor([[0, 1, 1], [0, 1, 1]], dtype=torch.uint8)
    assert confusion(truth, predicted, 3).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_the_parts_of_a_map_add_up_to_the_matrix_of_the_map() -> None:
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.choice(np.array([0, 1, 2, 255], np.uint8), (37, 11)))
    predicted = torch.from_numpy(rng.integers(0, 3, (37, 11)).astype(np.uint8))
    counter = Counter(3)
    for top in range(0, 37, 5):
        counter.add(truth[top : top + 5], predicted[top : top + 5])
    expected = [[int(((truth == t) & (predicted == p)).sum()) for p in range(3)] for t in range(3)]
    assert counter.matrix().tolist() == confusion(truth, predicted, 3).tolist() == expected


def test_only_ignored_pixels_count_nothing() -> None:
    ignored = torch.full((4, 4), 255, dtype=torch.uint8)
    assert not confusion(ignored, torch.zeros_like(ignored), 3).any()
    assert Counter(3).matrix().tolist() == [[0] * 3] * 3


@pytest.mark.parametrize("stray", [3, 254])
def test_a_label_that_is_no_class_is_an_error(stray: int) -> None:
    with pytest.raises(ValueError, match=f"class {stray} in a map of 3 classes"):
        confusion(torch.tensor([0, stray], dtype=torch.uint8), torch.tensor([0, 0]), 3)


def test_maps_of_two_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match="truth is"):
        confusion(torch.zeros(2, 2, dtype=torch.uint8), torch.zeros(2, 3, dtype=torch.uint8), 3)


def test_a_confidence_is_the_largest_softmax_of_the_scaled_logits() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 9.0]]).unsqueeze(1)  # two classes, three pixels
    truth = torch.tensor([[0, 1, 255]], dtype=torch.uint8)
    counted = Calibration((1.0, 2.0))
    counted.add(truth, logits)
    counted.add(truth, logits)
    plain, scaled = counted.histograms()
    sure, surer = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-2))
    assert plain[7] == pytest.approx([2, 1.0, 0])  # 0.5 is in the bin above 7 / 15; a tie is the first class
    assert plain[int(surer * 15)] == pytest.approx([2, 2 * surer, 2])
    assert scaled[int(sure * 15)] == pytest.approx([2, 2 * sure, 2])
    assert plain[:, 0].sum() == scaled[:, 0].sum() == 4


def test_a_certain_class_is_in_the_last_bin() -> None:
    counted = Calibration((1.0,))
    counted.add(torch.zeros(1, 5, dtype=torch.uint8), torch.tensor([400.0, 0.0])[:, None, None].expand(2, 1, 5))
    assert counted.histograms()[0, -1].tolist() == [5, 5, 5]
