"""params.yaml -> frozen dataclasses: one class per section; unknown keys are errors.

A section's class is a pydantic dataclass with the configuration `STRICT`. It declares every key with its type and its
limits. Its `__post_init__` checks what concerns several keys, and raises `ValueError` with a sentence that starts with
the key. An unknown key, a missing key and a wrong value result in one sentence that names the key, the given value and
what is expected.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from components.common.errors import ParamsError, reason
from components.common.param_errors import sentence
from components.common.yaml_files import read_yaml

C = TypeVar("C")

SECTIONS = (
    *("data", "sample", "check", "preprocess", "model", "train", "runtime"),
    *("evaluate", "export", "register", "trust", "predict", "serve", "watch"),
)
"""Sections of a params file."""

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""Configuration of every section's class: no conversions, no unknown keys, finite numbers."""

Seed = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Points = Annotated[float, Field(ge=0, le=100)]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
Count = Annotated[int, Field(ge=1, le=65_536)]
Processes = Annotated[int, Field(ge=0, le=1024)]
Side = Annotated[int, Field(ge=1, le=16_384)]
Wanted = Literal["auto", "trained", "float32", "tf32", "bf16"]
"""Precision of a prediction. trained: that of the training; auto: bf16 where the processor has it, else as trained."""

Text = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x20]([^\x00-\x1f]*[^\x00-\x20])?$",
        description="a string of one line without spaces at its ends",
    ),
]
"""Kinds of values that several sections have: `Points` are percentage points, a `Side` is in pixels."""


def section(params: Path, name: str, cls: type[C]) -> C:
    """Read one section of a params file.

    Args:
        params: the YAML file; its top level maps section names to sections.
        name: the section, for example `train`.
        cls: the frozen dataclass that describes the section; nested dataclasses are nested mappings.

    Raises:
        ParamsError: the file or the section is missing, a section is unknown, or a key or a value does not match `cls`.
    """
    document = read_yaml(params)
    if name not in document:
        raise ParamsError(f"{params}: the section {name} is missing; compare the file with the project's params.yaml")
    for other in document:
        if other not in (*SECTIONS, name):
            raise ParamsError(f"{params}: the section {other!r} is unknown; expected one of {', '.join(SECTIONS)}")
    try:
        return from_mapping(cls, document[name], name)
    except ParamsError as error:
        raise ParamsError(f"{params}: {error}") from None


def subset(document: Mapping[str, Any], name: str, cls: type[C]) -> C:
    """Some keys of a section: those of `cls`; other keys of the section are left to the class of the full section.

    Args:
        document: a params file as a mapping.
        name: the section.
        cls: a frozen dataclass with the keys to read.

    Raises:
        ParamsError: the section is missing, or a key or a value does not match `cls`.
    """
    given = document.get(name)
    if not isinstance(given, Mapping):
        raise ParamsError(f"the section {name} is missing; compare the file with the project's params.yaml")
    return from_mapping(cls, {f.name: given[f.name] for f in fields(cls) if f.name in given}, name)  # type: ignore[arg-type]


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of every leaf of a nested mapping."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def from_mapping(cls: type[C], given: object, where: str) -> C:
    """Build `cls` from a mapping and check every key, type and limit.

    Args:
        cls: a frozen dataclass.
        given: the mapping, as read from YAML or JSON.
        where: dotted path of the mapping, for messages.

    Raises:
        ParamsError: a key is unknown or missing, or a value has another type or is out of range.
    """
    try:
        text = json.dumps(given)  # pydantic reads the lists of JSON, and only those, as tuples
    except (TypeError, ValueError, RecursionError) as error:
        raise ParamsError(
            f"{where} has a value of an unknown kind ({reason(error)}); use strings, numbers, lists and mappings"
        ) from None
    try:
        return _adapter(cls).validate_json(text, strict=True, extra="forbid")  # type: ignore[arg-type]  # is hashable
    except ValidationError as error:
        raise ParamsError(sentence(error, json_schema(cls), where)) from None


def json_schema(cls: type[Any]) -> dict[str, Any]:
    """The JSON schema of a section, draft 2020-12."""
    return TypeAdapter(cls).json_schema()


@functools.cache
def _adapter(cls: type[C]) -> TypeAdapter[C]:
    return TypeAdapter(cls)
