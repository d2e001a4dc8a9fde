from __future__ import annotations

import dataclasses
import json
import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from components.common.data.store import Heights
from components.common.errors import WeightsError
from components.common.inference import modelfile
from components.common.inference.modelfile import (
    InitialWeights,
    ModelFacts,
    condition_of,
    load_model,
    save_model,
    temperature_of,
)

HEIGHTS = dataclasses.asdict(Heights("training-range", 30.0, 12.5, None, None, (-0.5, 2.0), "datum"))


@pytest.fixture
def facts(toy_config):
    return ModelFacts(
        network=toy_config(),
        classes=("a", "b", "c", "d", "e", "f"),
        in_means=(True,) * 5 + (False,),
        palette=((0, 0, 0),) * 6,
        bands=("red", "green", "blue"),
        gsd_m=0.05,
        heights=Heights("training-range", 30.0, 12.5, None, None, (-0.5, 2.0), "datum"),
        image_range=(0.0, 255.0),
        image_mean=(0.5, 0.5, 0.5),
        image_std=(0.25, 0.25, 0.25),
        window_px=64,
        dataset="potsdam",
        source="sample",
        split="sample",
        acknowledgement="thanks",
        data_md5="0" * 32,
        git_commit="unknown",
        tool_version="1",
        step=300,
        seed=1,
        validation={"miou_fused": 81.5},
    )


def test_a_model_and_its_facts_come_back_as_they_were(tmp_path, toy_network, facts):
    network = toy_network()
    save_model(tmp_path / "model.safetensors", network, facts)
    again, read = load_model(tmp_path / "model.safetensors")
    assert read == facts
    assert not again.training
    rgb, dsm = torch.randn(1, 3, 64, 64), torch.randn(1, 1, 64, 64)
    assert torch.equal(again(rgb, dsm), network(rgb, dsm))


@pytest.mark.parametrize("modalities", [("rgb", "dsm"), ("dsm", "rgb")], ids="+".join)
def test_the_order_of_the_modalities_changes_no_condition(facts, toy_config, modalities):
    facts = dataclasses.replace(facts, network=toy_config(modalities=modalities), temperature={"rgb+dsm": 1.5})
    assert facts.conditions == ("rgb+dsm", "rgb", "dsm")
    named = [condition_of(facts, image=image, dsm=dsm) for image, dsm in ((1, 1), (1, 0), (0, 1), (0, 0))]
    assert named == ["rgb+dsm", "rgb", "dsm", "rgb+dsm"]
    assert temperature_of(facts, named[0]) == 1.5


def test_the_header_is_plain_json(tmp_path, toy_network, facts):
    save_model(tmp_path / "model.safetensors", toy_network(), facts)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        header = json.loads(file.metadata()["mobanet"])
    assert header["heights"]["offset_m"] == 30.0
    assert header.keys() == {f.name for f in dataclasses.fields(ModelFacts)}


def test_the_initial_weights_come_back_with_their_licence_and_parts(tmp_path, toy_network, facts):
    start = InitialWeights("models:/mobanet/3", "a" * 64, "apache-2.0", {"decoder": "complete", "dgfm": "new"})
    save_model(tmp_path / "model.safetensors", toy_network(), dataclasses.replace(facts, initial_weights=start))
    assert load_model(tmp_path / "model.safetensors")[1].initial_weights == start


def test_a_file_of_an_earlier_version_has_unknown_initial_weights(tmp_path, toy_network, facts):
    network, path = toy_network(), tmp_path / "model.safetensors"
    content = dataclasses.asdict(facts)
    del content["initial_weights"]
    save_file(dict(network.state_dict()), path, metadata={"mobanet": json.dumps(content)})
    assert load_model(path)[1].initial_weights == InitialWeights("unknown", None, "unknown", {})


def test_what_is_not_such_a_file_is_refused_in_one_sentence(tmp_path, toy_network, facts):
    path = tmp_path / "model.safetensors"
    with pytest.raises(WeightsError, match="no such model; run the train step first"):
        load_model(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="the file has no MoBaNet header"):
        load_model(path)
    save_model(path, toy_network(), facts)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="not a readable model"):
        load_model(path)
    save_model(path, toy_network(decoder_channels=8), facts)
    with pytest.raises(WeightsError, match="not a readable model .*has the shape"):
        load_model(path)


def test_a_figure_that_is_not_defined_is_null_also_in_a_file_of_an_earlier_version(tmp_path, toy_network, facts):
    path, network = tmp_path / "model.safetensors", toy_network()
    undefined = dataclasses.replace(facts, validation={"imbalance": None})
    save_model(path, network, undefined)
    with safe_open(path, "pt") as file:
        header = file.metadata()["mobanet"]
    assert json.loads(header)["validation"] == {"imbalance": None}
    save_file(network.state_dict(), path, {"mobanet": header.replace('{"imbalance": null}', '{"imbalance": NaN}')})
    assert load_model(path)[1] == undefined


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("name", ["decoder.classifier.1.weight", "running_mean"])
def test_a_model_with_a_value_that_is_not_finite_is_neither_written_nor_read(
    tmp_path, toy_network, facts, monkeypatch, name, value
):
    network, path = toy_network(), tmp_path / "model.safetensors"
    name = next(key for key in network.state_dict() if key.endswith(name))
    network.state_dict()[name].flatten()[-1] = value
    sentence = rf"model\.safetensors: {re.escape(name)} has a NaN or infinite value, so this model cannot be used"
    with pytest.raises(WeightsError, match=sentence):
        save_model(path, network, facts)
    assert not path.exists()
    with monkeypatch.context() as without_check:
        without_check.setattr(modelfile, "first_non_finite", lambda tensors: None)
        save_model(path, network, facts)  # as an earlier version wrote it
    with pytest.raises(WeightsError, match=sentence):
        load_model(path)


@pytest.mark.parametrize(
    ("name", "value", "given"),
    [
        ("image_mean", (float("nan"), 0.5, 0.5), "[null, 0.5, 0.5]"),
        ("image_mean", None, "null"),
        ("image_mean", (0.5, 0.5), "[0.5, 0.5]"),
        ("image_std", (0.25, None, 0.25), "[0.25, null, 0.25]"),
        ("image_std", (0.25, 0.0, 0.25), "[0.25, 0.0, 0.25]"),
        ("image_std", (0.25, 0.25, -1.0), "[0.25, 0.25, -1.0]"),
        ("image_std", (0.25, 0.25, "1"), '[0.25, 0.25, "1"]'),
        ("heights", HEIGHTS | {"method": "tallest"}, json.dumps(HEIGHTS | {"method": "tallest"})),
        ("heights", HEIGHTS | {"method": None}, json.dumps(HEIGHTS | {"method": None})),
        ("window_px", -5, "-5"),
        ("window_px", 64.5, "64.5"),
        ("window_px", 10**9, "1000000000"),
    ],
)
def test_a_header_that_cannot_be_used_is_refused_with_its_key(tmp_path, toy_network, facts, name, value, given):
    path = tmp_path / "model.safetensors"
    header = json.dumps(dataclasses.asdict(facts) | {name: value})
    save_file(dict(toy_network().state_dict()), path, {"mobanet": header})
    with pytest.raises(WeightsError) as error:
        load_model(path)
    assert str(error.value).startswith(f"{path}: {name} in the header is {given}; expected ")
