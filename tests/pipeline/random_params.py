"""Parameter files with random mistakes, from params.yaml with the sizes of a toy."""

from __future__ import annotations

import random
from copy import deepcopy
from pathlib import Path

from components.common.params import read_yaml
from components.common.yaml_files import dump_yaml
from tests.e2e.conftest import merged
from tests.e2e.toy_training import SETTINGS

TOY = merged(read_yaml(Path(__file__).parents[2] / "params.yaml"), SETTINGS)
TRAINING = ("model", "train", "runtime")

ODD = [
    *("-1", "0", "1", "64", "1e-3", "5e-05", "1e18", "1e400", "0x1F", "2_10", ".nan", ".inf", "-.inf", "null", "true"),
    *("9" * 30, "9" * 5000, "-" + "9" * 30, "0x" + "f" * 5000, "2024-01-01", "2024-01-01T10:00:00Z", "yes", "text"),
    *("''", "' '", r'"a\nb"', r'"\0"', r'"\ud800"', "ä", "/nowhere", "none", "[]", "{}", "[1, 2]", "[0.1, 0.9]"),
    *("[.nan, 1]", "[[[1]]]", "{a: 1}", "{[1]: 2}", "{a: 1, a: 2}", "!!binary aGk=", "!thing x", "&a [*a]", "*a"),
    *("[1, 2", "{", "|", "!!set {x}", "{img_size: .nan}"),
]
"""YAML texts that take the place of a value of any kind."""

WORDS = ["none", "bf16", "tf32", "float32", "eroded", "full", "adapter", "residual", "cpu", "auto", "test_vit", "text"]
LISTS = [["rgb"], ["dsm"], ["dsm", "rgb"], [0, 1, 2, 3], [3, 2, 1, 0], [0.5, 0.6], [0.2, 0.1], [0.9, 0.95, 0.99], []]
ARGUMENTS = [{"patch_size": 16}, {"patch_size": 8}, {"depth": 4}, {"depth": 2}, {"patch_size": -1}, {"depth": "x"}, {}]


def similar(value: object, rng: random.Random) -> object:
    """Another value, often of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice(
            (value + 1, value * 2, value // 2, -value, value * 10**6, value * 2**80, 0, 1, 2, value + 0.5)
        )
    if isinstance(value, float):
        return rng.choice((value * 2, value / 3, value / 1e6, -value, value * 1e12, 0.0, 1.0, 1))
    if isinstance(value, list):
        return rng.choice(LISTS)
    if isinstance(value, dict):
        return rng.choice(ARGUMENTS)
    return rng.choice([*WORDS, 1, 2.5, 2**70]) if value else rng.choice((1, 0.5, 3, "text", -1, [0, 1, 2, 3]))


def random_params(seed: int) -> tuple[str, set[str]]:
    """A params file with one or two changes, and the sections that they change."""
    rng = random.Random(seed)
    document = deepcopy(TOY)
    placed: dict[str, str] = {}
    sections = set()
    for number in range(rng.choice((1, 1, 2))):
        section = rng.choice(TRAINING if rng.random() < 0.8 else list(document))
        sections.add(section)
        inner = document[section]
        while (nested := [key for key, value in inner.items() if isinstance(value, dict)]) and rng.random() < 0.5:
            inner = inner[rng.choice(nested)] or inner
        key = rng.choice(list(inner))
        change = rng.random()
        if change < 0.05:
            del inner[key]
        elif change < 0.1:
            inner[rng.choice((f"{key}s", "none", "a b", "num_classes", "image_bands", "seed "))] = inner[key]
        elif change < 0.12:
            document[rng.choice((section, "more"))] = rng.choice((None, [], "text", 3))
            break
        elif change < 0.4:
            inner[key] = f"@{number}@"
            placed[f"'@{number}@'"] = rng.choice(ODD)
        else:
            inner[key] = similar(inner[key], rng)
    text = dump_yaml(document)
    for mark, value in placed.items():
        text = text.replace(mark, value)
    lines = text.splitlines()
    if rng.random() < 0.03:
        lines.insert(rng.randrange(len(lines)), rng.choice(lines))  # a key twice, or one in the wrong place
    return "\n".join(lines) + "\n", sections
