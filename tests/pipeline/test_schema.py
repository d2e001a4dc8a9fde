from __future__ import annotations

import jsonschema
import pytest

from components.common.errors import ParamsError
from components.common.params import dotted, from_mapping, read_yaml
from pipeline.form import SECTIONS
from pipeline.schema import PARAMS, SCHEMA, comments, schema, written

VALIDATOR = jsonschema.Draft202012Validator(schema(PARAMS.read_text()))


def changed(key, value):
    document = read_yaml(PARAMS)
    *path, last = key.split(".")
    inner = document
    for name in path:
        inner = inner[name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return document


def test_the_schema_file_is_up_to_date():
    assert SCHEMA.read_text() == written(), "run `make schema`"


def test_the_params_file_names_the_schema_in_its_first_line_and_fits_it():
    first = PARAMS.read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA.name}"
    assert (PARAMS.parent / SCHEMA.name).is_file()
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)
    VALIDATOR.validate(read_yaml(PARAMS))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train", ...),
        ("train.steps", ...),
        ("train.stepz", 3),
        ("more", {}),
        ("train.steps", 0),
        ("train.steps", "many"),
        ("train.betas", [0.9]),
        ("train.betas", [0.9, 1.0]),
        ("train.max_gradient_norm", 0),
        ("train.masking.share", 1.5),
        ("model.num_classes", 6),
        ("model.image_bands", 3),
        ("model.modalities", ["rgb", "nir"]),
        ("model.tap_indices", [1, 2, 3]),
        ("runtime.speed.compile", "yes"),
        ("runtime.experiment", ""),
        ("runtime.experiment", "a\nb"),
        ("register.model_name", "a/b"),
        ("export.opset", 99),
        ("data.crs", "32633"),
    ],
)
def test_what_the_schema_refuses_is_refused_by_the_step_too(key, value):
    document = changed(key, value)
    assert not VALIDATOR.is_valid(document)
    section = key.partition(".")[0]
    if section in SECTIONS and section in document:
        with pytest.raises(ParamsError):
            from_mapping(SECTIONS[section], document[section], section)


def test_every_key_is_described_by_its_comment():
    described = comments(PARAMS.read_text())
    leaves = {key for key, _ in dotted(read_yaml(PARAMS)) if not key.startswith("model.backbone_args.")}
    assert leaves | {"model.backbone_args", "check.accept"} <= described.keys()
    steps = VALIDATOR.schema["properties"]["train"]["properties"]["steps"]
    assert steps == {
        "type": "integer",
        "minimum": 1,
        "maximum": 10_000_000,
        "description": "optimiser steps, >= 1 (released recipe: 50000)",
    }


def test_a_comment_belongs_to_the_key_of_its_line():
    text = "a:  # first\n  b: {c: '#'}  # second: x\n  d:\n    e: 1  # third\nf: 2\n# none: 3  # no\n"
    assert comments(text) == {"a": "first", "a.b": "second: x", "a.d.e": "third"}
