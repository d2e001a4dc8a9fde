"""components/common/scoring/counts.py: hand-counted matrices."""

import numpy as np
import pytest
import torch

from components.common.scoring.counts import Counter, confusion


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
