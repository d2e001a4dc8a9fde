"""components/export/parity.py: what counts as agreement."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from components.common.errors import NonFiniteError
from components.common.inference.precision import training_precision
from components.export import parity
from components.export.formats.pixels import Servable
from components.export.parity import ParityError, cases, check


def test_every_case_agrees_and_is_reported(trained, package) -> None:
    parity = check(trained.network, trained.facts, package / "model.onnx", 1e-4)
    assert [case.samples for case in parity.cases] == [1, 3, *[1] * 8, 3]
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
        for image, dsm in zip(*(torch.from_numpy(array).split(1) for array in inputs), strict=True):
            with torch.inference_mode():
                heights = dsm * 10
                (exact,) = Servable(trained.network, facts)(image, heights)
                with training_precision(trained.network, facts, torch.device("cpu")):
                    (scored,) = Servable(trained.network, facts)(image, heights)
            same.append((exact.argmax(1) == scored.argmax(1)).flatten())
    assert found.same_class_share == pytest.approx(torch.cat(same).float().mean().item(), abs=1e-4)
    assert (found.same_class_share > 0.999) if precision == "float32" else (0.5 < found.same_class_share < 1)
    assert all(torch.equal(before[name], value) for name, value in trained.network.state_dict().items())


@contextmanager
def shifted(module, shift) -> Iterator[None]:
    before = [weight.detach().clone() for weight in module.parameters()]
    try:
        for weight in module.parameters():
            weight.data += shift
        yield
    finally:
        for weight, earlier in zip(module.parameters(), before, strict=True):
            weight.data.copy_(earlier)


def test_a_weight_that_differs_is_found(trained, package) -> None:
    sentence = r"model.onnx: logits differ from the network's by .* export.tolerance"
    with shifted(trained.network.decoder.classifier, 0.01), pytest.raises(ParityError, match=sentence):
        check(trained.network, trained.facts, package / "model.onnx", 1e-4)


@pytest.mark.parametrize("shift", [3e38, math.nan])
def test_logits_of_the_network_that_are_not_finite_are_not_blamed_on_the_graph(trained, package, shift) -> None:
    with shifted(trained.network.decoder, shift), pytest.raises(NonFiniteError) as error:
        check(trained.network, trained.facts, package / "model.onnx", 1e-4)
    assert str(error.value).startswith("the network's own logits are NaN or infinite (noise), ")
    assert "export." not in str(error.value) and error.value.exit_code == 3


def test_logits_of_the_graph_that_are_not_finite_are_a_difference(trained, package, monkeypatch) -> None:
    compare = parity._compare
    monkeypatch.setattr(parity, "_compare", lambda name, ours, graph: compare(name, ours, graph * math.nan))
    with pytest.raises(ParityError, match="logits differ from the network's by nan"):
        check(trained.network, trained.facts, package / "model.onnx", 1e-4)


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
    *_, (name, (image, dsm)) = cases(trained.facts)
    assert name == "other sensors per sample"
    assert [bool(np.isnan(one).all()) for one in image] == [False, False, True]
    assert [bool(np.isnan(one).all()) for one in dsm] == [False, True, False]
