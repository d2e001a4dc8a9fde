"""`make schema`: write params.schema.json, with which editors complete and check params.yaml.

In: the dataclasses of the sections, which hold types and limits, and params.yaml, whose comments describe the keys.
Out: a JSON schema, draft 2020-12.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.common.params import json_schema
from pipeline.form import SECTIONS

ROOT = Path(__file__).parents[1]
PARAMS, SCHEMA = ROOT / "params.yaml", ROOT / "params.schema.json"

_KEY = re.compile(r"(?P<indent> *)(?P<key>\w+):(?:.*?\s# (?P<comment>.*))?")


def schema(params: str) -> dict[str, Any]:
    """The JSON schema of a params file.

    Args:
        params: text of params.yaml; its comments become descriptions.
    """
    sections = {name: _inlined(json_schema(cls)) for name, cls in SECTIONS.items()}
    for key, comment in comments(params).items():
        section, *path = key.split(".")
        part = sections[section]
        for name in path:
            part = part["properties"][name]
        part["description"] = comment
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Parameters of MoBaNet Pipeline",
        "type": "object",
        "additionalProperties": False,
        "required": list(sections),
        "properties": sections,
    }


def comments(params: str) -> dict[str, str]:
    """Dotted key -> the comment on its line, for all keys that have one."""
    found: dict[str, str] = {}
    path: list[str] = []
    for match in filter(None, map(_KEY.fullmatch, params.splitlines())):
        path[len(match["indent"]) // 2 :] = [match["key"]]
        if match["comment"]:
            found[".".join(path)] = match["comment"]
    return found


def written() -> str:
    """The content of params.schema.json."""
    return json.dumps(schema(PARAMS.read_text()), indent=2) + "\n"


def _inlined(document: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without references and titles."""

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return resolved(document["$defs"][part["$ref"].rpartition("/")[2]])
        return {key: resolved(value) for key, value in part.items() if key not in ("$defs", "title", "description")}

    inlined: dict[str, Any] = resolved(document)
    return inlined


if __name__ == "__main__":
    SCHEMA.write_text(written())
