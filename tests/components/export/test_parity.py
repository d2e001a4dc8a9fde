"""components/export/parity: what files are compared on, and what counts as agreement."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from components.common.data.height_scaling import scaled
from components.common.data.store import Heights
from components.common.errors import NonFiniteError
from components.common.inference.precision import training_precision
from components.export.formats.servable import Servable
from components.export.parity import format_parity
from components.export.parity.format_parity import CaseParity, FormatParity, check_format
from components.export.parity.parity_cases import Case, Reference, as_read, make_reference
from tests.components.conftest import export_config, toy_facts
from tests.components.export.toy_reference import reference_of
from tests.model.toys import distinguishing

CONFIG = export_config(tolerance=1e-4)
CROPS = ["rgb+dsm", "rgb", "dsm", "other sensors per sample", "nodata", "edge of a tile"]


class Eager:
    """A file that computes as the network does; `answer` may change what it gives."""

    name, free_size = "onnxruntime", True

    def __init__(self, network, facts, outputs=("logits",), answer=lambda name, values: values) -> None:
        self._module, self._outputs, self._answer = Servable(network, facts, outputs).eval(), outputs, answer

    def __call__(self, image, dsm):
        with torch.inference_mode():
            made = self._module(torch.from_numpy(image), torch.from_numpy(dsm))
        return {name: self._answer(name, x.numpy()) for name, x in zip(self._outputs, made, strict=True)}


@pytest.fixture(scope="module")
def network():
    return distinguishing(aux_heads=False)


@pytest.fixture(scope="module")
def facts(network):
    return replace(toy_facts(network.config), temperature={"rgb+dsm": 1.3, "rgb": 0.7, "dsm": 2.0})


@pytest.fixture(scope="module")
def reference(network, facts, tmp_path_factory) -> Reference:
    return reference_of(network, facts, tmp_path_factory.mktemp("reference"))


@pytest.fixture
def check(monkeypatch, reference, tmp_path):
    """Compare a stand-in for a file with the answers of the network."""

    def checked(file, format="onnx", config=CONFIG, of=reference) -> FormatParity:
        monkeypatch.setattr(format_parity, "open_file", lambda path, facts: file)
        return check_format(format, tmp_path / "model.onnx", of, config)

    return checked


def test_the_graph_of_a_package_agrees_on_every_case(trained, package) -> None:
    network, facts = trained.network, trained.facts
    reference = make_reference(network, facts, package / "crops.safetensors")
    found = check_format("onnx", package / "model.onnx", reference, CONFIG)
    assert (found.passed, found.reason, found.compared) == (True, "", "logits")
    assert (found.runtime, found.precision) == ("onnxruntime", "float32")
    assert [case.name for case in found.cases[-6:]] == [f"crops, {name}" for name in CROPS]
    assert [case.samples for case in found.cases] == [1, 3, *[1] * 10, 3, 2, *[3] * 6]
    assert found.largest_difference == max(case.largest_difference for case in found.cases) <= 1e-4
    assert found.changed_share == 0 and {case.changed_px for case in found.cases} == {0}
    assert {case.name: case.total_px for case in found.cases}["40 x 48 px"] == 2 * 40 * 48
    recorded = json.loads((package / "export.json").read_text())["formats"]["onnx"]
    assert [case["name"] for case in recorded["cases"]] == [case.name for case in found.cases]


def test_every_output_is_compared(check, network, facts) -> None:
    every = ("logits", "classes", "confidence")
    assert check(Eager(network, facts, every)).passed
    for wrong in every:
        found = check(
            Eager(network, facts, every, lambda name, x, wrong=wrong: np.roll(x, 1, 1) if name == wrong else x)
        )
        assert not found.passed, wrong
    confidence = check(Eager(network, facts, ("confidence",)))
    assert confidence.passed and (confidence.compared, confidence.changed_share) == ("confidence", 0)


def test_temperatures_count_in_the_confidence(check, network, facts) -> None:
    for condition in facts.conditions:
        other = replace(facts, temperature=facts.temperature | {condition: 1.1})
        found = check(Eager(network, other, ("logits", "confidence")))
        wrong = {case.name for case in found.cases if case.largest_difference > 1e-4}
        assert f"crops, {condition}" in wrong and "crops, other sensors per sample" in wrong
        assert {f"crops, {name}" for name in facts.conditions if name != condition}.isdisjoint(wrong)


def test_a_file_without_numbers_is_judged_by_its_classes(check, network, facts) -> None:
    found = check(Eager(network, facts, ("classes",)))
    assert found.passed and (found.compared, found.largest_difference, found.changed_share) == ("classes", None, 0)
    found = check(Eager(network, facts, ("classes",), lambda name, x: (x + 1) % 6))
    assert (found.passed, found.changed_share) == (False, 1)
    assert found.reason.startswith(
        "model.onnx: 100 % of the pixels get another class than from the network (all crops), "
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"image_mean": (0.41, 0.5, 0.6)},
        {"image_range": (0.0, 250.0)},
        {"heights": Heights("above-ground", 0.1, 10.0, 12.0, None, (-0.5, 2.0), "datum")},
        {"heights": Heights("above-ground", 0.0, 10.0, 12.0, None, (-0.5, 1.9), "datum")},
    ],
)
def test_another_preparation_of_the_inputs_is_found(check, network, facts, changes) -> None:
    sentence = "model.onnx: differs from the network by "
    assert check(Eager(network, replace(facts, **changes))).reason.startswith(sentence)


def test_a_weight_that_differs_is_found(check, network, facts) -> None:
    with shifted(network.decoder.classifier, 0.01):
        found = check(Eager(network, facts))
    assert not found.passed and "more than export.tolerance 0.0001" in found.reason


def swapped(share: float):
    """Change the class of this share of the pixels of every sample, in complete columns."""

    def answer(name, logits):
        columns = round(share * logits.shape[-1])
        return np.concatenate([np.roll(logits[..., :columns], 1, 1), logits[..., columns:]], -1)

    return answer


def test_reduced_precision_is_judged_by_pixels_that_change_class(check, network, facts) -> None:
    config = replace(CONFIG, max_changed_reduced=5.0)
    far = Eager(network, facts, ("logits",), lambda name, x: x * 1.5)
    assert not check(far, "onnx", config).passed
    found = check(far, "onnx-float16", config)
    assert found.passed and found.largest_difference > 0.1 and found.precision == "float16"
    found = check(Eager(network, facts, ("logits",), swapped(1 / 16)), "onnx-int8", config)
    assert (found.passed, found.changed_share) == (False, 1 / 16)
    assert found.reason == (
        "model.onnx: 6.25 % of the pixels get another class than from the network (crops, rgb+dsm), more than "
        "export.max_changed_reduced 5 %; raise it if this is acceptable"
    )
    assert check(
        Eager(network, facts, ("logits",), swapped(1 / 16)), "onnx-int8", replace(config, max_changed_reduced=7.0)
    )


def test_equal_classes_that_change_by_rounding_count_over_all_crops() -> None:
    crops = [CaseParity("a", 3, 0.0, 1, 3000), CaseParity("b", 3, 0.0, 0, 7000)]
    assert format_parity._changed_shares(crops, exact=True) == {"all crops": 1 / 10_000}
    assert format_parity._changed_shares(crops, exact=False) == {"a": 1 / 3000, "b": 0}


def test_one_condition_cannot_hide_behind_the_others(check, network, facts, reference) -> None:
    images = {case.name: case.inputs[0] for case in reference.cases}

    class WithoutImage(Eager):
        def __call__(self, image, dsm):
            made = super().__call__(image, dsm)
            same = np.array_equal(image, images["crops, dsm"], equal_nan=True)
            return {name: np.roll(x, 1, 1) if same else x for name, x in made.items()}

    found = check(WithoutImage(network, facts), "onnx-int8")
    assert (found.changed_share, found.passed) == (1, False) and "(crops, dsm)" in found.reason


@pytest.mark.parametrize("format", ["onnx", "onnx-float16"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_of_a_file_that_are_not_finite_are_a_difference(check, network, facts, format, value) -> None:
    found = check(Eager(network, facts, ("logits",), lambda name, x: np.full_like(x, value)), format)
    assert found.reason.startswith("model.onnx: gives values that are NaN or infinite (noise); ")
    written = json.dumps(found.as_json(), allow_nan=False)
    assert json.loads(written)["largest_difference"] is None


def test_a_file_that_cannot_run_has_not_passed(reference, tmp_path) -> None:
    for name in ("model.onnx", "model.pt2"):
        (tmp_path / name).write_bytes(b"damaged")
        found = check_format("pt2" if name == "model.pt2" else "onnx", tmp_path / name, reference, CONFIG)
        assert not found.passed and found.cases == ()
        assert found.reason.startswith(f"{name}: cannot be run by ") and "\n" not in found.reason


def test_outputs_of_another_shape_are_told(check, network, facts) -> None:
    found = check(Eager(network, facts, ("logits",), lambda name, x: x[:, :5]))
    assert "the output logits is 1 x 5 x 32 x 32 for noise; expected 1 x 6 x 32 x 32" in found.reason


def test_a_file_of_one_size_is_compared_on_windows_only(check, network, facts) -> None:
    file = Eager(network, facts)
    file.free_size = False
    assert "40 x 48 px" in {case.name for case in check(Eager(network, facts)).cases}
    found = check(file)
    assert found.passed and "40 x 48 px" not in {case.name for case in found.cases}


def test_the_limits_are_exact(reference, facts) -> None:
    def failure(difference, changed, *, exact) -> str:
        case = CaseParity("crops", 1, difference, changed, 10_000)
        return format_parity._failure("f", (case,), {"crops": changed / 10_000}, CONFIG, exact=exact)

    assert not failure(1e-4, 1, exact=True) and not failure(9.0, 20, exact=False)
    assert "export.tolerance" in failure(1.01e-4, 0, exact=True)
    assert "export.max_changed 0.01 %" in failure(0.0, 2, exact=True)
    assert "export.max_changed_reduced 0.2 %" in failure(0.0, 21, exact=False)


@pytest.mark.parametrize(("precision", "frozen_bf16"), [("float32", False), ("bf16", False), ("bf16", True)])
def test_the_share_of_pixels_with_the_class_of_the_scores_is_recorded(trained, package, precision, frozen_bf16) -> None:
    facts = replace(trained.facts, precision=precision, frozen_bf16=frozen_bf16)
    before = {name: value.clone() for name, value in trained.network.state_dict().items()}
    reference = make_reference(trained.network, facts, package / "crops.safetensors")
    assert reference.precision == precision
    same = []
    for case in reference.cases:
        for image, dsm in zip(*(torch.from_numpy(array).split(1) for array in case.inputs), strict=True):
            with torch.inference_mode():
                (exact,) = Servable(trained.network, facts)(image, dsm)
                with training_precision(trained.network, facts, torch.device("cpu")):
                    (scored,) = Servable(trained.network, facts)(image, dsm)
            same.append((exact.argmax(1) == scored.argmax(1)).flatten())
    assert reference.same_class_share == pytest.approx(torch.cat(same).float().mean().item(), abs=1e-4)
    assert (reference.same_class_share > 0.999) if precision == "float32" else (0.5 < reference.same_class_share < 1)
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


@pytest.mark.parametrize("shift", [3e38, math.nan])
def test_logits_of_the_network_that_are_not_finite_are_not_blamed_on_the_graph(trained, package, shift) -> None:
    with shifted(trained.network.decoder, shift), pytest.raises(NonFiniteError) as error:
        make_reference(trained.network, trained.facts, package / "crops.safetensors")
    assert str(error.value).startswith("the network's own logits are NaN or infinite (noise), ")
    assert "export." not in str(error.value) and error.value.exit_code == 3


def cases_of(reference: Reference) -> dict[str, Case]:
    return {case.name: case for case in reference.cases}


def test_the_cases_reach_beyond_the_ends_of_both_sensors(reference, facts) -> None:
    cases = cases_of(reference)
    image, dsm = cases["beyond the ranges"].inputs
    assert image.min() < 0 and image.max() > 255 and dsm.min() < -5 and dsm.max() > 20  # clip is -0.5 .. 2 times 10 m
    read, heights = as_read((image, dsm), facts)
    assert (read.min(), read.max(), heights.min(), heights.max()) == (0, 255, -0.5, 2)
    assert (cases["black image"].inputs[0] == 0).all() and (cases["white image"].inputs[0] == 255).all()
    assert (cases["flat ground"].inputs[1] == 0).all()
    assert all(np.isnan(x).all() for x in cases["nothing measured"].inputs)
    image, dsm = cases["other sensors per sample"].inputs
    assert [bool(np.isnan(one).all()) for one in image] == [False, False, True]
    assert [bool(np.isnan(one).all()) for one in dsm] == [False, True, False]


def test_the_crops_have_every_condition_nodata_and_edges(reference, facts) -> None:
    cases = {name: case for name, case in cases_of(reference).items() if case.of_tiles}
    assert list(cases) == [f"crops, {name}" for name in CROPS]
    missing = {
        name: tuple(np.isnan(x).all() for x in cases[f"crops, {name}"].inputs) for name in ("rgb+dsm", "rgb", "dsm")
    }
    assert missing == {"rgb+dsm": (False, False), "rgb": (False, True), "dsm": (True, False)}
    image, dsm = cases["crops, nodata"].inputs
    assert 0.1 < np.isnan(image).mean() < 0.5
    assert {-9999.0, float(np.finfo(np.float32).max), math.inf, -math.inf} < set(dsm.flat)
    assert 0.1 < np.isnan(as_read((image, dsm), facts)[1]).mean() < 0.5
    image, dsm = cases["crops, edge of a tile"].inputs
    assert (
        np.isnan(image[..., -10:, :]).all() and np.isnan(dsm[..., -10:]).all() and np.isfinite(dsm[..., :20, :20]).all()
    )
    image, dsm = cases["crops, rgb+dsm"].inputs
    assert np.isnan(image[..., -4:]).all() and np.isfinite(image[..., :-4]).all()  # beyond the tile, black in the file


def test_files_get_the_pixels_and_heights_of_the_crops(trained, package) -> None:
    facts = replace(
        trained.facts,
        image_range=(100.0, 4100.0),
        heights=Heights("training-range", 250.0, 40.0, None, (2.0, 98.0), (-0.5, 2.0), "datum"),
    )
    stored = load_file(package / "crops.safetensors")
    image, dsm = cases_of(make_reference(trained.network, facts, package / "crops.safetensors"))[
        "crops, rgb+dsm"
    ].inputs
    np.testing.assert_allclose(image, np.moveaxis(stored["image"], -1, 1) / 255 * 4000 + 100, rtol=1e-6)
    np.testing.assert_allclose(dsm[:, 0], stored["dsm"] * 40 + 250, rtol=1e-6)
    read, heights = as_read((image, dsm), facts)
    assert np.array_equal(read, np.moveaxis(stored["image"], -1, 1))
    assert np.array_equal(heights[0, 0], scaled(dsm[0, 0], facts.heights, facts.gsd_m), equal_nan=True)
