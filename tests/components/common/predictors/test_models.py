"""A model in any format gives the logits of its network."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import mlflow
import numpy as np
import onnx
import pytest
import torch

from components.common.errors import ParamsError, TrackingError, WeightsError
from components.common.files import digest
from components.common.inference.modelfile import load_model, save_model, temperature_of
from components.common.predictors.models import open_model
from components.common.predictors.predictor import ModelIdentity
from components.predict.scores.blending import blended
from components.predict.scores.lattice import Lattice
from components.predict.scores.meter import Meter
from model.inputs import normalise
from tests.components.conftest import toy_facts
from tests.components.predict.known import noise

CPU = torch.device("cpu")


@pytest.fixture
def windows():
    """A batch of two windows with missing pixels in both sensors."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 3, 32, 32)).astype(np.float32)
    dsm = rng.uniform(-0.5, 2, (2, 1, 32, 32)).astype(np.float32)
    image[0, :, :8], dsm[1, :, 5:] = np.nan, np.nan
    return torch.from_numpy(image), torch.from_numpy(dsm)


@pytest.fixture
def saved(toy_network, tmp_path):
    """Write a toy network to a file."""

    def write(name="model.safetensors", facts=None, **changes):
        network = toy_network(**changes)
        save_model(tmp_path / name, network, replace(toy_facts(network.config), **(facts or {})))
        return tmp_path / name

    return write


def expected_logits(file, image, dsm):
    network, facts = load_model(file)
    rgb, heights = normalise(image.nan_to_num(nan=torch.nan), dsm, facts.image_mean, facts.image_std)
    with torch.no_grad():
        return network(rgb.nan_to_num(), heights)


def test_a_package_is_its_network_without_its_path(package, windows):
    file = package / "model.safetensors"
    with open_model(str(package), CPU) as predictor:
        assert predictor.identity == ModelIdentity("model.safetensors", None, digest(file))
        assert (predictor.window_px, predictor.patch_size, predictor.fixed_window) == (32, 8, False)
        assert torch.equal(predictor(*windows).logits_BKHW, expected_logits(file, *windows))


def test_a_graph_gives_the_logits_of_its_network(package, windows):
    with open_model(str(package / "model.onnx"), CPU) as graph, open_model(str(package), CPU) as network:
        assert graph.facts == network.facts and graph.identity.name == "model.onnx"
        assert (graph.window_px, graph.patch_size, graph.fixed_window, graph.has_gates) == (32, 8, False, False)
        maps = graph(*windows)
        assert maps.gates_B1HW is None
        torch.testing.assert_close(maps.logits_BKHW, network(*windows).logits_BKHW, atol=1e-4, rtol=0)


def test_parts_of_a_graph_are_the_same_bits_as_the_whole(package):
    inputs = noise(50, 90)
    lattice = Lattice(50, 90, 32, 24, 4)
    with open_model(str(package / "model.onnx"), CPU) as graph:
        whole, left, right = (
            torch.cat(
                [band.probabilities_KhW for band in blended(inputs, graph, lattice, slice(0, 50), columns, Meter(1))], 1
            )
            for columns in (slice(0, 90), slice(0, 37), slice(37, 90))
        )
    assert torch.equal(torch.cat([left, right], 2), whole)


def test_gates_are_a_map_of_the_mean_gate(package, windows):
    with open_model(str(package), CPU) as predictor:
        gates = predictor(*windows).gates_B1HW
    assert predictor.has_gates and gates.shape == (2, 1, 32, 32)
    assert 0 <= gates.min() < gates.max() <= 1
    assert torch.equal(gates[:, :, ::8, ::8], gates[:, :, 7::8, 7::8])  # one value per patch


@pytest.mark.parametrize("modality", ["rgb", "dsm"])
def test_a_model_of_one_sensor_ignores_the_other(saved, windows, modality):
    image, dsm = windows
    with open_model(str(saved(modalities=(modality,))), CPU) as predictor:
        assert not predictor.has_gates
        found = predictor(image, dsm)
        other = predictor(image, dsm * 2) if modality == "rgb" else predictor(image / 2, dsm)
    assert found.gates_B1HW is None and torch.equal(found.logits_BKHW, other.logits_BKHW)


def test_a_sensor_that_is_missing_everywhere_is_zero_after_normalisation(saved, windows):
    file = saved()
    network, facts = load_model(file)
    image, dsm = windows[0].nan_to_num(), windows[1].nan_to_num()
    with torch.no_grad():
        rgb, heights = normalise(image, dsm, facts.image_mean, facts.image_std)
        without_dsm, without_image = network(rgb, None), network(None, heights)
    with open_model(str(file), CPU) as predictor:
        assert torch.equal(predictor(image, torch.full_like(dsm, torch.nan)).logits_BKHW, without_dsm)
        assert torch.equal(predictor(torch.full_like(image, torch.nan), dsm).logits_BKHW, without_image)


def test_another_window_is_rounded_up_to_whole_patches(saved):
    with open_model(str(saved()), CPU, 50) as predictor:
        assert predictor.window_px == 56
        assert predictor(torch.zeros(1, 3, 56, 56), torch.zeros(1, 1, 56, 56)).logits_BKHW.shape == (1, 6, 56, 56)


def test_another_window_of_a_graph_is_that_of_the_network(package):
    image, dsm = torch.rand(1, 3, 48, 48) * 255, torch.rand(1, 1, 48, 48)
    with open_model(str(package / "model.onnx"), CPU, 42) as graph, open_model(str(package), CPU, 42) as network:
        assert (graph.window_px, network.window_px) == (48, 48)
        torch.testing.assert_close(
            graph(image.round(), dsm).logits_BKHW, network(image.round(), dsm).logits_BKHW, atol=1e-4, rtol=0
        )


def test_a_calibrated_temperature_is_read_and_a_wrong_one_refused(saved):
    by_condition = {"rgb+dsm": 1.2, "dsm": 1.7}
    _, facts = load_model(saved(facts={"temperature": by_condition}))
    assert facts.temperature == by_condition
    assert [temperature_of(facts, name) for name in facts.conditions] == [1.2, None, 1.7]
    _, earlier = load_model(saved(facts={"temperature": 1.7}))
    assert earlier.temperature == {"rgb+dsm": 1.7, "rgb": 1.7, "dsm": 1.7}
    for wrong in (0, {"rgb": -1.0}, {"rgb": "warm"}, "warm"):
        with pytest.raises(WeightsError, match=r"temperature in the header is .*; expected a number above 0 per"):
            load_model(saved(facts={"temperature": wrong}))


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.ckpt", "model.h5", "model"])
def test_another_format_is_one_sentence_with_the_formats(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    text = f"{name}: not a model that predict can open; use a package folder, a .safetensors, .onnx or .pt2 file"
    with pytest.raises(WeightsError, match=text), open_model(str(tmp_path / name), CPU):
        pass


def refused(path):
    with pytest.raises(WeightsError) as error, open_model(str(path), CPU):
        pass
    return str(error.value)


def test_missing_and_damaged_models_are_one_sentence(tmp_path, package):
    assert re.search(r"gone\.safetensors: no such model", refused(tmp_path / "gone.safetensors"))
    assert re.search("no model package, because it has no export.json", refused(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    assert re.search("not a readable model", refused(tmp_path / "model.safetensors"))
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    assert re.search(r"model\.onnx: not a readable graph of this project", refused(tmp_path / "model.onnx"))
    other = onnx.load(package / "model.onnx")
    del other.metadata_props[:]
    onnx.save(other, tmp_path / "other.onnx")
    assert re.search(r"other\.onnx: not a readable graph of this project", refused(tmp_path / "other.onnx"))


def test_a_package_of_the_earlier_format_is_read(tmp_path, package, windows):
    made = tmp_path / "package"
    made.mkdir()
    shutil.copy(package / "model.safetensors", made)
    sha256 = {"model.safetensors": digest(made / "model.safetensors")}
    (made / "export.json").write_text(json.dumps({"format": 1, "sha256": sha256}))
    with open_model(str(made), CPU) as earlier, open_model(str(package), CPU) as newest:
        assert earlier.identity == newest.identity
        assert torch.equal(earlier(*windows).logits_BKHW, newest(*windows).logits_BKHW)


def test_a_package_that_changed_after_the_export_is_refused(tmp_path, package, saved):
    made = tmp_path / "package"
    shutil.copytree(package, made)
    shutil.copy(saved(dgfm=False), made / "model.safetensors")
    assert re.search(r"model\.safetensors: changed since the export", refused(made))
    record = json.loads((made / "export.json").read_text())
    (made / "export.json").write_text(json.dumps(record | {"format": 4}))
    assert re.search("a package of format 4, but this version reads up to 3", refused(made))
    for damaged in ("{", json.dumps(record | {"format": None})):
        (made / "export.json").write_text(damaged)
        assert re.search(r"export\.json: damaged", refused(made))


def test_a_registered_model_is_known_by_its_version_and_checked(saved, mlflow_folder):
    file = saved()
    client = mlflow.MlflowClient()
    logged = client.create_logged_model("0", name="mobanet")
    client.log_model_artifact(logged.model_id, str(file))
    client.finalize_logged_model(logged.model_id, "READY")
    client.create_registered_model("city")
    for sha256 in (digest(file), "0" * 64):
        tags = {"sha256": sha256}
        client.create_model_version("city", f"models:/{logged.model_id}", model_id=logged.model_id, tags=tags)
    client.set_registered_model_alias("city", "champion", "1")
    with open_model("models:/city@champion", CPU) as predictor:
        assert predictor.identity == ModelIdentity("models:/city/1", "1", digest(file))
    for uri, text in {
        "models:/city/2": r"models:/city/2: model\.safetensors is not the file that was registered",
        "models:/city@nobody": r"models:/city@nobody: not in sqlite:.*; correct --model",
    }.items():
        with pytest.raises(TrackingError, match=text), open_model(uri, CPU):
            pass
    with pytest.raises(ParamsError, match=r"--model is models:/city; expected models:/NAME@ALIAS"):
        open_model("models:/city", CPU).__enter__()
