"""components/export/parity.py: what counts as agreement."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from components.common.inference.precision import training_precision
from components.export.onnx_graph import Servable
from components.export.parity import ParityError, cases, check


def test_every_case_agrees_and_is_reported(trained, package) -> None:
    parity = check(trained.network, trained.facts, package / "model.onnx", 1e-4)
    assert [case.samples for case in parity.cases] == [1, 3, 1, 1, 1, 1, 1, 1]
    assert parity.largest_difference == max(case.largest_difference for case in parity.cases) <= 1e-4


@pytest.mark.parametrize(("precision", "frozen_bf16"), [("float32", False), ("bf16", False), ("bf16", True)])
def test_the_share_of_pixels_with_the_class_of_the_scores_is_recorded(trained, package, precision, frozen_bf16) -> None:
    facts = replace(trained.facts, precision=precision, frozen_bf16=frozen_bf16)
    before = {name: value.clone() for name, value in trained.network.state_dict().items()}
    found = check(trained.network, facts, package / "model.onnx", 1e-4)
    assert found.precision == precision
    assert found.largest_difference <= 1e-4  # of the float32 network
    same = []
    for _, inputs in cases(facts):
        image, dsm = map(torch.from_numpy, inputs)
        with torch.inference_mode():
            exact = Servable(trained.network, facts)(image, dsm)
            with training_precision(trained.network, facts, torch.device("cpu")):
                scored = Servable(trained.network, facts)(image, dsm)
        same.append((exact.argmax(1) == scored.argmax(1)).flatten())
    assert found.same_class_share == pytest.approx(torch.cat(same).float().mean().item(), abs=1e-4)
    assert (found.same_class_share > 0.999) if precision == "float32" else (0.5 < found.same_class_share < 1)
    assert all(torch.equal(before[name], value) for name, value in trained.network.state_dict().items())


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
