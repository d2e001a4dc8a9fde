"""Section `model` names the weights that a training starts from: a file, the hub, or a registered model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch

from components.common.data.store import Store
from components.common.errors import ParamsError, TrackingError, WeightsError
from components.common.files import digest
from components.common.inference.modelfile import InitialWeights, load_model, save_model
from components.common.params import from_mapping
from components.common.tracking.registered_models import fetch
from components.common.yaml_files import read_yaml
from components.train import loop
from components.train.config import ModelParams
from components.train.step import run
from components.train.weights import backbone_weights
from components.train.weights.initial_weights import load_initial_weights
from tests.components.conftest import toy_facts

ROOT = Path(__file__).parents[4]


@pytest.fixture
def initial(toy_network, model_params, toy_store, tmp_path):
    """Load the initial weights of a network with these values of section `model`."""

    def load(weights="none", init=None, out=tmp_path / "models/best.safetensors"):
        network = toy_network()
        given = replace(model_params(), weights=weights, init=None if init is None else str(init))
        return network, load_initial_weights(network, given, Store(toy_store).manifest, out)

    return load


@pytest.fixture
def earlier(toy_network, tmp_path):
    """Write an earlier model, and return its file."""

    def write(name="earlier.safetensors", licence="apache-2.0", seed=1):
        torch.manual_seed(seed)
        network = toy_network()
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.02)
        start = InitialWeights("hub", "0" * 64, licence)
        save_model(tmp_path / name, network, replace(toy_facts(network.config), initial_weights=start))
        return tmp_path / name

    return write


@pytest.fixture
def model_section():
    """Section `model` as shipped, with changes."""

    def read(**changes):
        return from_mapping(ModelParams, read_yaml(ROOT / "params.yaml")["model"] | changes, "model")

    return read


def test_random_weights_need_no_licence(initial):
    assert initial()[1] == InitialWeights("none", None, "none needed (random weights)")


def test_the_licence_of_the_hub_is_that_of_its_catalogue(initial, monkeypatch, toy_network):
    tensors = toy_network().encoder.backbone.vit.state_dict()
    monkeypatch.setattr(backbone_weights, "_from_hub", lambda *_: tensors)
    _, start = initial("hub")
    assert (start.source, start.licence) == ("hub", "apache-2.0")


def test_the_licence_of_a_file_is_unknown_with_its_name(initial, toy_network, tmp_path):
    torch.save(toy_network().encoder.backbone.vit.state_dict(), tmp_path / "mine.pth")
    _, start = initial(str(tmp_path / "mine.pth"))
    assert start.licence == "unknown (file mine.pth)" and len(start.sha256) == 64


def test_an_earlier_model_passes_on_its_licence(initial, earlier):
    file = earlier(licence="DINOv3 License")
    network, start = initial(init=file)
    assert (start.source, start.sha256, start.licence) == (str(file), digest(file), "DINOv3 License")
    assert torch.equal(
        network.state_dict()["decoder.classifier.1.weight"], load_model(file)[0].decoder.classifier[1].weight
    )


@pytest.mark.parametrize("weights", ["hub", "vit.pth"])
def test_weights_in_addition_to_init_are_an_error_and_not_ignored(model_section, weights):
    with pytest.raises(ParamsError, match=rf"model\.weights is '{weights}'; expected none, because model\.init has"):
        model_section(weights=weights, init="earlier.safetensors")


def test_a_missing_file_and_a_file_of_another_kind_are_one_sentence(initial, tmp_path, toy_network):
    with pytest.raises(WeightsError, match=r"gone\.safetensors: file not found; correct model\.init"):
        initial(init="gone.safetensors")
    torch.save(toy_network().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"weights\.pth: not a readable model"):
        initial(init=tmp_path / "weights.pth")


def test_the_model_that_this_training_replaces_is_refused(initial, earlier, tmp_path):
    with pytest.raises(ParamsError, match=r"which this training replaces; copy the file and name the copy"):
        initial(init=earlier(), out=tmp_path / "earlier.safetensors")


def test_a_registered_model_is_found_by_alias_and_by_version(initial, earlier, mlflow_folder):
    file = earlier("model.safetensors")
    client = mlflow.MlflowClient()
    logged = client.create_logged_model("0", name="mobanet")
    client.log_model_artifact(logged.model_id, str(file))
    client.finalize_logged_model(logged.model_id, "READY")
    client.create_registered_model("city")
    client.create_model_version("city", f"models:/{logged.model_id}", model_id=logged.model_id)
    client.set_registered_model_alias("city", "champion", "1")
    expected = load_model(file)[0].encoder.projections[0].weight
    for uri in ("models:/city@champion", "models:/city/1"):
        network, start = initial(init=uri)
        assert (start.source, start.sha256) == ("models:/city/1", digest(file))
        assert torch.equal(network.encoder.projections[0].weight, expected)
    for uri in ("models:/city@nobody", "models:/city/7", "models:/village@champion"):
        with pytest.raises(TrackingError, match=f"{uri}: not in sqlite:.*correct model.init"):
            initial(init=uri)
    with pytest.raises(TrackingError, match=r"models:/city/1: other\.txt cannot be downloaded .*register step"):
        fetch("models:/city/1", "other.txt", mlflow_folder)


@pytest.mark.parametrize(
    "uri", ["models:/city", "models:/city@", "models:/city/champion", "models:/a/b/1", "models:/@x"]
)
def test_a_registered_model_of_another_form_is_one_sentence(model_section, uri):
    with pytest.raises(
        ParamsError, match=rf"model\.init is '{uri}'; expected models:/NAME@ALIAS, models:/NAME/VERSION"
    ):
        model_section(init=uri)


def test_a_store_that_cannot_be_reached_is_one_sentence_about_init(initial, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError) as refused:
        initial(init="models:/city@champion")
    assert str(refused.value).startswith("models:/city@champion: cannot use the MLflow store http://127.0.0.1:9")
    assert str(refused.value).endswith("; correct MLFLOW_TRACKING_URI, or set model.init to a file")


class Killed(Exception):
    """Stands for kill -9."""


@pytest.fixture
def train(tmp_path, toy_store, train_config, model_params, runtime):
    def call(file, **changes):
        model, folders = replace(model_params(), init=str(file)), (tmp_path / "models", tmp_path / "checkpoints")
        return run(train_config(steps=4), model, runtime(**changes), toy_store, *folders)

    return call


def test_a_training_from_an_earlier_model_records_it(train, earlier, tmp_path, mlflow_folder):
    file = earlier()
    run_id = train(file, tracking="mlflow").mlflow_run_id
    tags = mlflow.MlflowClient().get_run(run_id).data.tags
    assert (tags["weights_source"], tags["weights_licence"]) == (str(file), "apache-2.0")
    network, facts = load_model(tmp_path / "models/best.safetensors")
    assert facts.initial_weights.sha256 == digest(file) and facts.initial_weights.parts["decoder"] == "complete"
    frozen = "encoder.backbone.vit.blocks.0.attn.qkv.weight"
    assert torch.equal(network.state_dict()[frozen], load_model(file)[0].state_dict()[frozen])


def test_a_resume_from_another_content_of_the_earlier_model_is_refused(train, earlier, tmp_path, monkeypatch):
    file = earlier()
    validated = loop.validate
    monkeypatch.setattr(loop, "validate", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        train(file)
    monkeypatch.setattr(loop, "validate", validated)
    shutil.copy(file, tmp_path / "first.safetensors")
    earlier(seed=2)
    with pytest.raises(ParamsError, match=r"the run interrupted at step \d had weights = .*; set it back"):
        train(file)
    assert train(tmp_path / "first.safetensors").step == 4
