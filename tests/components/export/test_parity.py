"""components/export/parity.py: what counts as agreement."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from components.export.parity import ParityError, cases, check


def test_every_case_agrees_and_is_reported(trained, package) -> None:
    parity = check(trained.network, trained.facts, package / "model.onnx", 1e-4)
    assert [case.samples for case in parity.cases] == [1, 3, 1, 1, 1, 1, 1, 1]
    assert parity.largest_difference == max(case.largest_difference for case in parity.cases) <= 1e-4


@pytest.mark.parametrize("shift", [0.01, math.nan])
def test_a_weight_that_differs_is_found(trained, package, shift) -> None:
    network = trained.network
    weight = next(p for name, p in network.named_parameters() if name.endswith("classifier.1.weight"))
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight += shift
        with pytest.raises(ParityError, match=r"model.onnx: logits differ from the network's by .* export.tolerance"):
            check(network, trained.facts, package / "model.onnx", 1e-4)
    finally:
        with torch.no_grad():
            weight.copy_(before)


def test_another_normalisation_is_found(trained, package) -> None:
    facts = replace(trained.facts, image_mean=(0.41, 0.5, 0.6))
    with pytest.raises(ParityError, match="logits differ"):
        check(trained.network, facts, package / "model.onnx", 1e-5)


def test_the_cases_reach_the_ends_of_both_sensors(trained) -> None:
    images, heights = zip(*(inputs for _, inputs in cases(trained.facts)), strict=True)
    assert any((image == 0).all() for image in images) and any((image == 255).all() for image in images)
    assert any((dsm == 0).all() for dsm in heights)
    assert any(np.isnan(dsm).all() for dsm in heights) and any(np.isnan(image).all() for image in images)
    assert any(0 < np.isnan(dsm).mean() < 1 for dsm in heights)
