"""Every format gives the logits of its network, to predict and to evaluate."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from components.common.errors import ParamsError, WeightsError
from components.common.exported.graph_inputs import dsm_values
from components.common.exported.graph_layout import layout_of
from components.common.inference.modelfile import load_model
from components.common.predictors.model_checks import verify_model
from components.common.predictors.models import open_model
from components.common.predictors.scored import open_scored
from components.evaluate.config import EvaluateConfig
from components.evaluate.step import run as evaluate
from tests.components.conftest import toy_facts

CPU = torch.device("cpu")
FILES = ("model.onnx", "model_qgis.onnx", "model.pt2")


@pytest.fixture
def samples():
    """Windows with both sensors, holes in both, no DSM, and no image."""
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, (4, 3, 32, 32)).astype(np.float32)
    dsm = rng.uniform(-0.5, 2, (4, 1, 32, 32)).astype(np.float32)
    image[1, :, :8, 4:], dsm[1, :, 20:, :9] = np.nan, np.nan
    dsm[2], image[3] = np.nan, np.nan
    return torch.from_numpy(image), torch.from_numpy(dsm)


def centred(logits_BKHW):
    """Logits without their mean over the classes, which probabilities do not have."""
    return logits_BKHW - logits_BKHW.mean(1, keepdim=True)


@pytest.mark.parametrize("file", FILES)
def test_every_format_gives_the_logits_of_the_network(toy_files, samples, file):
    image, dsm = samples
    with open_model(str(toy_files / file), CPU) as graph, open_model(str(toy_files / "model.safetensors"), CPU) as own:
        assert (graph.precision, graph.identity.name, graph.has_gates) == ("float32", file, False)
        assert replace(graph.facts, temperature=None) == own.facts
        pairs = [(image, dsm), (image[:1], None), (None, dsm[:1])]
        for given in pairs:
            expected, found = (centred(each(*given).logits_BKHW) for each in (own, graph))
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        assert expected.std(1).mean() > 0.005


def layout(changes=(), **graph_keys):
    facts = replace(toy_facts(toy_config()), **dict(changes))
    return layout_of(Path("model.onnx"), json.loads(json.dumps(asdict(facts))) | graph_keys)


def toy_config():
    from model import MoBaNetConfig

    return MoBaNetConfig(backbone="test_vit", backbone_args={"patch_size": 8, "img_size": 64}, decoder_channels=16)


def test_a_file_gets_pixels_as_stored_and_metres(samples):
    image, dsm = samples
    found = layout({"image_range": (100, 1100)}, dsm_values="metres above ground").inputs(image, dsm)
    np.testing.assert_allclose(found["image"], image / 255 * 1000 + 100, rtol=1e-6)
    np.testing.assert_allclose(found["dsm"], dsm * 10, rtol=1e-6)


def test_a_graph_of_an_earlier_version_gets_the_inputs_of_the_network(samples):
    image, dsm = samples
    found = layout({"image_range": (100, 1100)}).inputs(image, None)
    np.testing.assert_array_equal(found["image"], image)
    assert np.isnan(found["dsm"]).all() and found["dsm"].shape == (4, 1, 32, 32)


def test_heights_that_each_tile_scales_stay_scaled():
    heights = replace(toy_facts(toy_config()).heights, offset_m=None, scale_m=None, percentiles=(1.0, 99.0))
    assert dsm_values(heights) == "scaled"
    found = layout({"heights": heights}, dsm_values="scaled").inputs(None, torch.full((1, 1, 8, 8), 0.5))
    assert (found["dsm"] == 0.5).all()


def test_metadata_that_contradict_each_other_are_one_sentence():
    with pytest.raises(WeightsError, match='dsm_values is "metres", but its heights are metres above ground'):
        layout(dsm_values="metres")
    with pytest.raises(WeightsError, match="this file gives classes and confidence, but predict and evaluate need log"):
        layout(dsm_values="metres above ground", outputs=["classes", "confidence"])


SETTINGS = EvaluateConfig(window_px=None, stride_px=24, batch_size=4, failure_probability=0.1, panel_px=64)


def test_a_graph_is_scored_like_its_network(toy_files, trained, tmp_path):
    scores = {}
    for name in ("model.safetensors", "model.onnx"):
        found = evaluate(SETTINGS, trained.store, toy_files / name, tmp_path / name, tracked=False).evaluation
        scores[name] = {condition: np.array(found.confusion["full"][condition]) for condition in found.conditions}
        assert found.protocol.precision == "float32"
    own, graph = scores.values()
    assert own.keys() == graph.keys() == {"rgb+dsm", "rgb", "dsm"}
    for condition, counts in own.items():
        assert counts.sum() > 0 and np.abs(counts - graph[condition]).sum() <= 0.001 * counts.sum()


def test_what_a_graph_cannot_be_asked_is_one_sentence(toy_files, trained, tmp_path):
    with pytest.raises(ParamsError, match=r"evaluate.robustness is true, but model.onnx takes pixels as files store"):
        evaluate(replace(SETTINGS, robustness=True), trained.store, toy_files / "model.onnx", tmp_path, tracked=False)


def test_a_package_is_scored_by_its_network(package):
    with open_scored(package, CPU) as model:
        assert not model.exported and model.fixed_px is None
        expected = load_model(package / "model.safetensors")[1]
    assert model.facts == expected


def test_every_check_is_told(toy_files, package):
    for name in ("model.safetensors", *FILES):
        told = []
        verify_model(toy_files / name, told.append)
        assert len(told) >= 2 and all(sentence.startswith(f"{name}: ") for sentence in told)
    told = []
    verify_model(package, told.append)
    assert any("files with the recorded checksums" in sentence for sentence in told)
    assert any(sentence.startswith("facts: the same in model.onnx, model.safetensors") for sentence in told)


def changed(package, tmp_path, name, change):
    """A copy of a package in which a file was changed, and the record with it."""
    import shutil

    from components.common.files import digest

    copy = tmp_path / "package"
    shutil.copytree(package, copy)
    (copy / name).write_bytes(change((copy / name).read_bytes()))
    record = json.loads((copy / "export.json").read_text())
    record["sha256"][name] = digest(copy / name)
    (copy / "export.json").write_text(json.dumps(record))
    return copy


def test_a_package_that_contradicts_itself_is_refused(package, tmp_path):
    from tests.components.common.predictors.hostile_graphs import property_

    bad = changed(package, tmp_path, "model.onnx", property_("step", 12345))
    with pytest.raises(WeightsError, match=r"model.onnx: metadata of another model, because step differ from"):
        verify_model(bad, lambda check: None)


def test_scores_of_another_model_are_refused(package, tmp_path):
    def other(data):
        content = json.loads(data)
        content["protocol"]["model"]["seed"] = 99
        return json.dumps(content).encode()

    with pytest.raises(WeightsError, match=r"evaluation.json: scores of another model, because seed differ from"):
        verify_model(changed(package, tmp_path, "evaluation.json", other), lambda check: None)


def test_a_file_that_is_not_the_recorded_one_is_refused(package, tmp_path):
    import shutil

    copy = tmp_path / "package"
    shutil.copytree(package, copy)
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"\0")
    for call in (
        lambda: open_model(str(copy / "model.onnx"), CPU).__enter__(),
        lambda: verify_model(copy / "model.onnx", print),
    ):
        with pytest.raises(WeightsError, match=r"model.onnx: changed since the export"):
            call()
