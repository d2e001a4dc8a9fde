"""Presets: files of this folder, each with a description and the parameters that differ from params.yaml as shipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.common.errors import ParamsError
from components.common.params import dotted
from components.common.yaml_files import parse_yaml, read_yaml
from pipeline.presets.yaml_edit import with_values

FOLDER = Path(__file__).parent
SHIPPED = FOLDER / "params.yaml"
PARAMS_FILE = Path("params.yaml")
"""Params file of a command, if the user names none."""


def named_or_shipped(params: Path) -> Path:
    """The params file to read: the shipped one if the user named none and the current folder has none."""
    return SHIPPED if params == PARAMS_FILE and not params.exists() else params


@dataclass(frozen=True, slots=True)
class Preset:
    """A set of parameters for one task."""

    name: str
    about: str  # one line
    needs: str  # data and GPU memory, one line
    edit: Mapping[str, str]  # key that you must set -> what to set it to
    text: str  # the complete params.yaml, with comments

    def differences(self, params: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Dotted keys in which parameters differ from this preset -> given value and the preset's; `MISSING`: none."""
        given, own = dict(dotted(params)), dict(dotted(parse_yaml(self.text, self.name)))
        keys = [*own, *(key for key in given if key not in own)]
        pairs = {key: (given.get(key, MISSING), own.get(key, MISSING)) for key in keys}
        return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


MISSING = "(missing)"
"""In place of a value that one of two files lacks."""


def names() -> list[str]:
    """Names of all presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path != SHIPPED)


def preset(name: str) -> Preset:
    """Read a preset.

    Raises:
        ParamsError: there is no preset with this name.
    """
    if name not in names():
        raise ParamsError(f"there is no preset {name!r}; use one of {', '.join(names())}")
    path = FOLDER / f"{name}.yaml"
    facts = read_yaml(path)
    text = with_values(SHIPPED.read_text(), path.read_text(), "params")
    return Preset(name, facts["about"], facts["needs"], facts["edit"], text)


def nearest(params: Mapping[str, Any]) -> Preset:
    """The preset from which parameters differ in the fewest keys."""
    return min(map(preset, names()), key=lambda one: len(one.differences(params)))
