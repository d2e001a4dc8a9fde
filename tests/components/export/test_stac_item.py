"""components/export/descriptions/stac_item.py: valid by the schema of MLM, by pystac and by stac-model."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pystac
import pytest
import referencing
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.validation import JsonSchemaSTACValidator
from stac_model.schema import MLModelProperties

from components.common.data.store import Heights, read_manifest
from components.common.files import digest
from components.common.inference.modelfile import InitialWeights
from components.export.descriptions import stac_item
from components.export.descriptions.training_area import area_of
from tests.components.export.full_evaluation import formats, full

ROOT = Path(__file__).parents[3]
SCHEMA = ROOT.parent / "shared/contracts/stac_mlm.schema.json"
NAMES = ("README.md", "crops.safetensors", "evaluation.json", "model.onnx", "model.pt2", "model.safetensors")
NAMES += ("model_qgis.onnx", "predict_example.py", "reference.json")


class Offline(JsonSchemaSTACValidator):
    """Checks the item by the core schema, which pystac contains, and by that of MLM; the others are only on the web."""

    def validate_extension(self, stac_dict, stac_object_type, stac_version, extension_id, href=None):
        """An extension must be MLM 1.5, or one that pystac implements, in the version that pystac implements."""
        assert extension_id in {stac_item.MLM, FileExtension.get_schema_uri(), ClassificationExtension.get_schema_uri()}
        return extension_id


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """Files of a package; what is in them does not matter here."""
    folder = tmp_path_factory.mktemp("package")
    for name in NAMES:
        (folder / name).write_text(f"content of {name}")
    return [folder / name for name in NAMES]


@pytest.fixture
def make(trained, files):
    """Makes an item of changed facts."""

    def item(evaluation=None, **changes):
        options = {name: changes.pop(name) for name in ("outputs", "free_size", "tiles") if name in changes}
        found = full(json.loads(trained.evaluation.read_text())) if evaluation is None else evaluation
        return stac_item.make(replace(trained.facts, **changes), found, formats(), files, parameters=1234, **options)

    return item


CLASS = {
    "type": "object",
    "required": ["value", "name"],
    "properties": {
        "value": {"type": "integer"},
        "name": {"type": "string", "pattern": "^[0-9A-Za-z-_]+$"},
        "color_hint": {"type": "string", "pattern": "^[0-9A-Fa-f]{6}$"},
    },
}
REFERRED = {
    "classification:classes": {"type": "array", "minItems": 1, "uniqueItems": True, "items": CLASS},
    "processing:expression": {"type": "object", "required": ["format", "expression"]},
}
"""What the schema of MLM refers to on the web: rules of the extensions classification and processing."""


@functools.cache
def mlm_schema() -> jsonschema.Draft7Validator:
    """The schema of MLM, with rules of the other extensions."""

    def retrieve(uri: str):
        data_type = {"items": {"properties": {"data_type": {"enum": ["uint8", "float32"]}}}}
        definitions = {"fields": {"properties": REFERRED}, "bands": data_type}
        content = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": definitions}
        return referencing.Resource.from_contents(content)

    return jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()), registry=referencing.Registry(retrieve=retrieve))


def mlm_errors(item: dict) -> list[str]:
    """What the schema of MLM finds wrong."""
    return [error.message[:200] for error in mlm_schema().iter_errors(item)]


@pytest.mark.skipif(not SCHEMA.is_file(), reason="needs the schema in ../shared/contracts")
def test_the_item_is_valid_by_the_schema_of_the_extension(make) -> None:
    for changes in (
        {},
        {"outputs": ("logits", "classes", "confidence"), "free_size": True},
        {"initial_weights": InitialWeights("none", None, "none needed (random weights)")},
        {"dataset": "my city_1", "classes": ("a b", "ä/b", "c", "d", "e", "f")},
        {"heights": Heights("per-tile", None, None, None, (2.0, 98.0), (-0.5, 2.0), "datum")},
    ):
        assert mlm_errors(make(**changes)) == []


@pytest.mark.skipif(not SCHEMA.is_file(), reason="needs the schema in ../shared/contracts")
def test_the_check_finds_what_is_not_valid(make) -> None:
    for change in ("mlm:name", "mlm:input", "mlm:architecture"):
        item = make()
        del item["properties"][change]
        assert mlm_errors(item)
    item = make()
    item["properties"]["mlm:input"][0]["value_scaling"] = [{"type": "min-max"}]
    assert mlm_errors(item)


def test_pystac_and_stac_model_accept_the_item(make) -> None:
    item = pystac.Item.from_dict(make(outputs=("logits", "classes", "confidence")))
    assert item.validate(Offline())[0].endswith("item-spec/json-schema/item.json")
    found = MLModelProperties(**{key.removeprefix("mlm:"): value for key, value in item.properties.items()})
    assert [one.name for one in found.input] == ["image", "dsm"]
    assert [one.name for one in found.output] == ["logits", "classes", "confidence"]
    assert found.framework == "PyTorch" and found.total_parameters == 1234
    assert found.memory_size == len("content of model.safetensors")


def test_inputs_say_what_the_files_take_and_what_they_do_themselves(make, trained) -> None:
    item = make(image_range=(100.0, 4195.0), heights=Heights("training-range", 30.0, 25.0, None, None, (0, 1), "datum"))
    image, dsm = item["properties"]["mlm:input"]
    assert image["input"] == {
        "shape": [-1, 3, 32, 32],
        "dim_order": ["batch", "bands", "height", "width"],
        "data_type": "float32",
    }
    assert (image["bands"], dsm["bands"], dsm["input"]["shape"]) == (["red", "green", "blue"], ["dsm"], [-1, 1, 32, 32])
    (scaling,) = image["value_scaling"]
    assert scaling["type"] == "processing" and "themselves" in scaling["description"]
    assert scaling["expression"] == [
        {"type": "min-max", "minimum": 100.0, "maximum": 4195.0},
        {"type": "clip", "minimum": 0, "maximum": 1},
        {"type": "z-score", "mean": list(trained.facts.image_mean), "stddev": list(trained.facts.image_std)},
    ]
    assert dsm["value_scaling"][0]["expression"] == [
        {"type": "offset", "value": 30.0},
        {"type": "scale", "value": 25.0},
        {"type": "clip", "minimum": 0, "maximum": 1},
    ]
    assert dsm["description"].startswith("Heights in metres, as the DSM files hold them. NaN: not measured")
    red, *_, heights = item["properties"]["bands"]
    assert red["statistics"] == pytest.approx({"mean": 100 + 0.4 * 4095, "stddev": 0.2 * 4095})
    assert heights["unit"] == "m" and item["properties"]["mobanet:dsm_values"] == "metres"


def test_outputs_have_classes_with_their_colours(make) -> None:
    item = make(outputs=("classes", "confidence"), classes=("a b", "building", "c", "d", "e", "f"))
    classes, confidence = item["properties"]["mlm:output"]
    assert classes["result"] == {"shape": [-1, 32, 32], "dim_order": ["batch", "height", "width"], "data_type": "uint8"}
    assert classes["classification:classes"][:2] == [
        {"value": 0, "name": "a_b", "description": "a b", "color_hint": "FFFFFF"},
        {"value": 1, "name": "building", "description": "building", "color_hint": "0000FF"},
    ]
    assert confidence["classification:classes"] == [] and confidence["result"]["data_type"] == "float32"
    assert make()["properties"]["mlm:output"][0]["result"]["shape"] == [-1, 6, 32, 32]
    assert make(free_size=True)["properties"]["mlm:output"][0]["result"]["shape"] == [-1, 6, -1, -1]


def test_every_file_is_an_asset_with_its_checksum(make, files) -> None:
    item = make()
    assert item["assets"].keys() == set(NAMES)
    for path in files:
        asset = item["assets"][path.name]
        assert (asset["href"], asset["file:size"]) == (f"./{path.name}", path.stat().st_size)
        assert asset["file:checksum"] == "1220" + digest(path)
    models = {
        name: asset["mlm:artifact_type"] for name, asset in item["assets"].items() if "mlm:model" in asset["roles"]
    }
    assert models == {
        "model.onnx": "torch.onnx.export",
        "model_qgis.onnx": "torch.onnx.export",
        "model.pt2": "torch.export.save",
        "model.safetensors": "safetensors.torch.save_file",
    }
    example = item["assets"]["predict_example.py"]
    assert example["mlm:entrypoint"] == "predict_example.py" and {"code", "example"} <= set(example["roles"])
    assert item["id"] == "mobanet-sample-sample-" + digest(files[NAMES.index("model.safetensors")])[:12]


def test_figures_and_origin_are_those_of_evaluation_and_facts(make, trained) -> None:
    evaluation = full(json.loads(trained.evaluation.read_text()))
    properties = make(evaluation)["properties"]
    scores = evaluation["scores"]["eroded"]
    assert properties["mobanet:evaluation"]["miou"] == {name: found["miou"] for name, found in scores.items()}
    assert properties["mobanet:evaluation"]["expected_miou"] == evaluation["balance"]["expected_miou"]
    assert properties["mlm:hyperparameters"]["heights"]["scale_m"] == 10.0
    assert properties["mobanet:acknowledgement"] == trained.facts.acknowledgement
    assert properties["license"] == "other" and properties["gsd"] == 0.05
    evaluation["balance"] = None
    assert make(evaluation)["properties"]["mobanet:evaluation"]["expected_miou"] is None


def test_the_item_lies_where_the_training_tiles_are_unless_they_are_generated(make, trained) -> None:
    tiles = read_manifest(trained.store).subset("train")
    placed = [
        replace(tile, crs="EPSG:32633", transform=(0.05, 0, 391_000 + 4.8 * i, 0, -0.05, 5_820_000))
        for i, tile in enumerate(tiles)
    ]
    item = make(source="isprs", tiles=placed)
    west, south, east, north = item["bbox"]
    assert (west, north) == pytest.approx((13.394, 52.518), abs=0.005)
    assert 0 < north - south < 1e-4 and (east - west) * 67_750 == pytest.approx(4.8 * len(placed), rel=0.05)
    assert item["geometry"]["type"] == "Polygon"
    assert pystac.Item.from_dict(item).validate(Offline())
    assert make(tiles=placed)["geometry"] is None  # generated scenes are nowhere
    for unknown in ("", 'LOCAL_CS["here",UNIT["metre",1]]'):
        assert area_of([*placed, replace(placed[0], crs=unknown)]) is None
    assert area_of([]) is None


def test_an_item_without_a_place_is_valid_at_any_time(make) -> None:
    item = make()
    assert item["geometry"] is None and "bbox" not in item
    assert item["properties"]["datetime"] is None
    assert item["properties"]["start_datetime"] == "1900-01-01T00:00:00Z"
