"""Mutators of texts: the dataset.json of a folder as imported, the YAML files of datasets/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from numpy.random import Generator


def text_damage(rng: Generator, content: str) -> str:
    """A piece of a text lost, doubled, turned round, or replaced."""
    start, length = int(rng.integers(len(content))), int(rng.integers(1, 40))
    piece = content[start : start + length]
    odd = (
        "",
        piece * 2,
        piece[::-1],
        "\x00",
        "\t- {",
        "null",
        "1e999",
        "[]",
        "é\udcff".encode("utf8", "replace").decode(),
    )
    return content[:start] + odd[int(rng.integers(len(odd)))] + content[start + length :]


def record_text(rng: Generator, path: Path) -> None:
    path.write_text(text_damage(rng, path.read_text()))


def record_value(rng: Generator, path: Path) -> None:
    """Another value somewhere in the JSON."""
    content = json.loads(path.read_text())
    branch: Any = content
    while True:
        keys = list(branch) if isinstance(branch, dict) else list(range(len(branch)))
        key = keys[int(rng.integers(len(keys)))]
        if not isinstance(branch[key], dict | list) or not branch[key] or rng.random() < 0.25:
            break
        branch = branch[key]
    odd = [
        None,
        0,
        -1,
        1e30,
        "",
        "x",
        "../../etc/passwd",
        "/etc/passwd",
        "{",
        "{tile!r:>99999999}",
        [],
        {},
        [None],
        True,
    ]
    branch[key] = odd[int(rng.integers(len(odd)))]
    path.write_text(json.dumps(content))
