"""components/common/scoring/boundary.py: against a count of pixel pairs by SciPy, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from components.common.data.datasets import IGNORE
from components.common.scoring.boundary import Outlines, boundary_iou, near_outline


def by_distance(classes, ignored, width):
    """Near an outline: the chessboard distance to some known pixel of another class is at most `width`."""
    near = np.zeros(classes.shape, bool)
    for value in np.unique(classes):
        others = (classes != value) & ~ignored
        if others.any():
            distance = ndimage.distance_transform_cdt(~others, "chessboard")
            near |= (classes == value) & (distance <= width)
    return near & ~ignored


def maps(seed, shape=(41, 67), classes=4):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (6, 9))
    truth = ndimage.zoom(coarse, (shape[0] / 6, shape[1] / 9), order=0).astype(np.uint8)
    predicted = np.where(rng.random(shape) < 0.03, rng.integers(0, classes, shape), np.roll(truth, 2, 1))
    truth[rng.random(shape) < 0.05] = IGNORE
    truth[:5, 10:30] = IGNORE
    return truth, predicted.astype(np.uint8)


@pytest.mark.parametrize("width", [1, 2, 3, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_counts_are_those_of_an_independent_computation(width, seed):
    truth, predicted = maps(seed)
    ignored = truth == IGNORE
    near_truth, near_predicted = by_distance(truth, ignored, width), by_distance(predicted, ignored, width)
    expected = []
    for value in range(4):
        g, p = near_truth & (truth == value), near_predicted & (predicted == value)
        expected.append([(g & p).sum(), (g | p).sum()])
    found = Outlines(torch.tensor(truth), 4, width).counts(torch.tensor(predicted))
    assert found.tolist() == np.array(expected).tolist()


def test_a_perfect_prediction_has_100_percent_and_a_shifted_outline_less():
    truth = torch.zeros(40, 40, dtype=torch.uint8)
    truth[:, 20:] = 1
    outlines = Outlines(truth, 3, 3)
    assert outlines.counts(truth).tolist() == [[120, 120], [120, 120], [0, 0]]
    shifted = outlines.counts(truth.roll(1, 1).index_fill(1, torch.tensor([0]), 0)).numpy()
    assert shifted.tolist() == [[80, 160], [80, 160], [0, 0]]  # two of the four columns near either outline
    assert boundary_iou(shifted).tolist()[:2] == [50, 50] and np.isnan(boundary_iou(shifted)[2])


def test_neither_the_edge_of_a_tile_nor_an_ignored_area_is_an_outline():
    classes = torch.full((20, 20), 2, dtype=torch.uint8)
    ignored = torch.zeros(20, 20, dtype=torch.bool)
    assert not near_outline(classes, ignored).any()
    ignored[5:9] = True
    classes[5:9] = 1
    assert not near_outline(classes, ignored).any()
