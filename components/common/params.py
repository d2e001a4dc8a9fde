"""params.yaml -> frozen dataclasses: one class per section; unknown keys are errors.

A section's class declares every key with its type. An unknown key, a missing key and a value of the wrong type are
errors that name the key, the given value and the expected one.
The class checks ranges: `__post_init__` raises `ValueError` with a sentence that starts with the key.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from components.common.errors import ParamsError

C = TypeVar("C")


def section(params: Path, name: str, cls: type[C]) -> C:
    """Read one section of a params file.

    Args:
        params: the YAML file; its top level maps section names to sections.
        name: the section, for example `train`.
        cls: the frozen dataclass that describes the section; nested dataclasses are nested mappings.

    Raises:
        ParamsError: the file or the section is missing, or a key or a value does not match `cls`.
    """
    document = read_yaml(params)
    if name not in document:
        raise ParamsError(f"{params}: the section {name} is missing; compare the file with the project's params.yaml")
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


def read_yaml(path: Path, loader: type[yaml.SafeLoader] | type[yaml.BaseLoader] = yaml.SafeLoader) -> Mapping[str, Any]:
    """The content of a YAML file whose top level is a mapping.

    Raises:
        ParamsError: the file is missing, is not valid YAML, or its top level is not a mapping.
    """
    try:
        document = yaml.load(path.read_bytes(), loader)
    except FileNotFoundError:
        raise ParamsError(
            f"{path}: no such file; run the command in the project folder, or pass the path of another file"
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ParamsError(f"{place}: not valid YAML ({reason}); fix that line") from None
    if not isinstance(document, Mapping):
        raise ParamsError(f"{path}: not a mapping of names to values; compare it with the project's own files")
    return document


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of every leaf of a nested mapping."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def from_mapping(cls: type[C], given: object, where: str) -> C:
    """Build `cls` from a mapping and check every key and type.

    Args:
        cls: a frozen dataclass.
        given: the mapping, as read from YAML or JSON.
        where: dotted path of the mapping, for messages.

    Raises:
        ParamsError: a key is unknown or missing, or a value has another type or is out of range.
    """
    if not isinstance(given, Mapping):
        raise ParamsError(f"{where} is {given!r}; expected a mapping with the keys {_names(cls)}")
    known: dict[str, Field[Any]] = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            raise ParamsError(f"{where}.{key} is unknown (given: {given[key]!r}); expected one of {_names(cls)}")
    for key, field in known.items():
        if key not in given and field.default is MISSING and field.default_factory is MISSING:
            raise ParamsError(f"{where}.{key} is missing; expected {_spell(get_type_hints(cls)[key])}")
    hints = get_type_hints(cls)
    values = {key: _value(hints[key], value, f"{where}.{key}") for key, value in given.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ParamsError(f"{where}.{error}") from None


def _value(kind: Any, value: object, where: str) -> Any:
    origin, options = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return from_mapping(kind, value, where)  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        inner = [option for option in options if option is not type(None)]
        if len(inner) == 1:
            return _value(inner[0], value, where)
        for option in inner:
            with suppress(ParamsError):
                return _value(option, value, where)
    elif origin is Literal:
        if value in options:
            return value
    elif origin is tuple:
        if isinstance(value, list) and (options[-1] is Ellipsis or len(value) == len(options)):
            kinds = [options[0]] * len(value) if options[-1] is Ellipsis else options
            return tuple(_value(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    elif origin is dict:
        if isinstance(value, dict):
            return value
    elif kind is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ParamsError(f"{where} is {value!r} ({_yaml_kind(value)}); expected {_spell(kind)}")


def _names(cls: type[Any]) -> str:
    return ", ".join(sorted(f.name for f in fields(cls)))


_SPELLED = {int: "a whole number", float: "a number", str: "a string", bool: "true or false", type(None): "null"}


def _spell(kind: Any) -> str:
    origin, options = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(str(option) for option in options)
    if origin in (Union, types.UnionType):
        return " or ".join(_spell(option) for option in options)
    if origin is dict:
        return "a mapping"
    if origin is tuple:
        count = "" if options[-1] is Ellipsis else f" of {len(options)}"
        return f"a list{count}, each {_spell(options[0])}"
    if isinstance(kind, type) and is_dataclass(kind):
        return f"a mapping with the keys {_names(kind)}"
    return _SPELLED.get(kind, str(kind))


def _yaml_kind(value: object) -> str:
    kinds = {dict: "a mapping", list: "a list"} | _SPELLED
    return kinds.get(type(value), type(value).__name__)
