"""components/export/descriptions: what a package says about itself depends on model, data and parameters only."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from components.common.data.store import read_manifest
from components.common.files import digest
from components.export.descriptions import predict_example
from components.export.descriptions.package_descriptions import write_descriptions
from tests.components.export.full_evaluation import formats

OTHERS = ("model.onnx", "model.safetensors", "evaluation.json")
DESCRIPTIONS = {"README.md", "predict_example.py", "stac_item.json"}


@pytest.fixture
def described(trained, tmp_path):
    """Writes the descriptions into a folder; returns it, and the item."""

    def describe(name="package", made=None, **changes):
        folder = tmp_path / name
        folder.mkdir()
        for file in OTHERS:
            (folder / file).write_text(file)
        evaluation = json.loads(trained.evaluation.read_text())
        facts, manifest = replace(trained.facts, **changes), read_manifest(trained.store)
        write_descriptions(folder, trained.network, facts, evaluation, made or formats(), ("logits",), manifest)
        return folder, json.loads((folder / "stac_item.json").read_text())

    return describe


def test_the_item_lists_all_other_files_and_the_weights_of_the_network(described, trained) -> None:
    folder, item = described()
    assert {path.name for path in folder.iterdir()} == DESCRIPTIONS | set(OTHERS)
    assert item["assets"].keys() == (DESCRIPTIONS | set(OTHERS)) - {"stac_item.json"}
    assert item["assets"]["README.md"]["file:checksum"] == "1220" + digest(folder / "README.md")
    weights = sum(parameter.numel() for parameter in trained.network.parameters())
    assert item["properties"]["mlm:total_parameters"] == weights
    assert item["properties"]["mlm:input"][0]["input"]["shape"] == [-1, 3, -1, -1]
    assert "multiples of 8 pixels, from 16 on" in (folder / "README.md").read_text()


def test_writing_them_again_elsewhere_gives_the_same_bytes(described) -> None:
    (one, _), (other, _) = described("one"), described("other")
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in DESCRIPTIONS)


def test_the_item_has_a_place_only_if_the_store_is_that_of_the_training(described, trained) -> None:
    data_md5 = read_manifest(trained.store).data_md5
    assert described("same", source="isprs", data_md5=data_md5)[1]["geometry"]["type"] == "Polygon"
    assert described("other", source="isprs", data_md5="f" * 32)[1]["geometry"] is None


def test_a_package_without_onnx_has_no_example(described) -> None:
    folder, item = described(made={"pt2": formats()["pt2"]})
    assert not (folder / "predict_example.py").exists() and "predict_example.py" not in item["assets"]


@pytest.mark.parametrize("content", [None, b"no array"])
def test_the_example_names_a_file_that_it_cannot_read(content, tmp_path):
    file = tmp_path / "image.npy"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit, match=r"image\.npy: not a readable \.npy file"):
        predict_example.layers_of({"bands": ["r", "g", "b"], "window_px": 8}, str(file), None)
