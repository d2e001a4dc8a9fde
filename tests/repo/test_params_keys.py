"""No key of params.yaml is accepted and ignored."""

from __future__ import annotations

import ast
import dataclasses

import pytest

from pipeline.form import SECTIONS
from tests.repo.import_graph import ROOT


def keys(cls, prefix):
    for field in dataclasses.fields(cls):
        kind = cls.__pydantic_fields__[field.name].annotation
        if dataclasses.is_dataclass(kind):
            yield from keys(kind, f"{prefix}.{field.name}")
        else:
            yield f"{prefix}.{field.name}"


def attributes_read():
    """Names of all attributes that the code reads, except in `__post_init__`, which only checks them."""
    names = set()
    for top in ("components", "model", "pipeline"):
        for path in (ROOT / top).rglob("*.py"):
            tree = ast.parse(path.read_text())
            checks = {n for f in ast.walk(tree) if getattr(f, "name", "") == "__post_init__" for n in ast.walk(f)}
            names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node not in checks}
    return names


READ = attributes_read()


@pytest.mark.parametrize("key", [key for name, cls in SECTIONS.items() for key in keys(cls, name)])
def test_every_key_is_read(key):
    assert key.rpartition(".")[2] in READ, f"{key} is accepted, but nothing reads it"
