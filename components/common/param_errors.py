"""An error of pydantic as one sentence: the dotted key, the given value and what is expected.

The JSON schema of the dataclass states the types and limits; `expected` turns a part of it into words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

Schema = Mapping[str, Any]

LONGEST = 100
"""Longest value that a sentence shows, characters."""

_ORDER = {"unexpected_keyword_argument": 0, "missing": 1}
"""Which of several errors to report: a misspelled key is both unknown and missing."""

_NOUNS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a string",
    "boolean": "true or false",
    "null": "null",
    "object": "a mapping",
    "array": "a list",
}
_KINDS: dict[type, str] = {
    int: "integer",
    float: "number",
    str: "string",
    dict: "object",
    list: "array",
}


def sentence(error: ValidationError, schema: Schema, where: str) -> str:
    """The first problem of a section, as a sentence.

    Args:
        error: what pydantic found.
        schema: JSON schema of the section's class.
        where: dotted path of the section.
    """
    problem = min(error.errors(include_url=False), key=lambda found: _ORDER.get(found["type"], len(_ORDER)))
    kind, loc, given = problem["type"], problem["loc"], problem["input"]
    if kind == "json_invalid":
        if "recursion" in problem["ctx"]["error"]:
            return f"{where} has too many nested brackets; remove some"
        return f"{where} has a character that is not valid Unicode; remove it"
    if kind == "unexpected_keyword_argument":
        place, parent = _place(schema, loc[:-1], where)
        key = loc[-1] if str(loc[-1]).isprintable() else repr(loc[-1])
        return f"{place}.{key} is unknown (given: {_shown(given)}); expected one of {_keys(parent)}"
    lacks_an_item = kind == "missing" and isinstance(loc[-1], int)
    place, part = _place(schema, loc[:-1] if lacks_an_item else loc, where)
    if kind == "value_error":
        return f"{place}.{problem['ctx']['error']}"
    words = expected(part, schema)
    if kind == "missing" and not lacks_an_item:
        return f"{place} is missing; expected {words}"
    if kind == "finite_number":
        words = words.replace("a number", "a finite number", 1)
    of_wrong_kind = lacks_an_item or kind.endswith(("_type", "_error", "_long", "_short"))
    return f"{place} is {_shown(given)}{_kind(given) if of_wrong_kind else ''}; expected {words}"


def expected(part: Schema, schema: Schema) -> str:
    """The values that a part of a JSON schema accepts, in words.

    Args:
        part: the schema of one key.
        schema: the document that contains it.
    """
    words = list(dict.fromkeys(_expected(option, schema) for option in _options(part, schema)))
    known = [word for word in words if word != "null"]
    return " or ".join(known) + (", or null" if known and len(known) < len(words) else "") or "null"


def _expected(option: Schema, schema: Schema) -> str:
    if "enum" in option or "const" in option:
        return " or ".join(map(str, option.get("enum", (option.get("const"),))))
    if "properties" in option:
        return f"a mapping with the keys {_keys(option)}"
    if option.get("type") == "array":
        items = option.get("prefixItems") or [option.get("items", {})]
        least, most = option.get("minItems"), option.get("maxItems")
        count = f" of {least}" if least is not None and least == most else ""
        return f"a list{count}, each {expected(items[0], schema)}"
    noun = option.get("description") or _NOUNS.get(option.get("type", ""), "any value")
    return f"{noun}{_limits(option)}"


def _limits(option: Schema) -> str:
    """The limits of a number, for example ` from 0 to 1`."""
    low, high = option.get("minimum"), option.get("maximum")
    above, below = option.get("exclusiveMinimum"), option.get("exclusiveMaximum")
    if low is not None and (high is not None or below is not None):
        return f" from {low} to {high}" if below is None else f" from {low} to below {below}"
    lower = f" of {low} or more" if low is not None else f" above {above}" if above is not None else ""
    upper = f" up to {high}" if high is not None else f" below {below}" if below is not None else ""
    return " and".join(filter(None, (lower, upper)))


def _place(schema: Schema, loc: Sequence[int | str], where: str) -> tuple[str, Schema]:
    """The dotted key and the schema of a location; the branches of a union are no part of the key."""
    part = _resolved(schema, schema)
    for step in loc:
        inner = next(filter(None, (_inner(option, step) for option in _options(part, schema))), None)
        if inner is None:
            break
        where, part = f"{where}[{step}]" if isinstance(step, int) else f"{where}.{step}", inner
    return where, _resolved(part, schema)


def _inner(option: Schema, step: int | str) -> Schema | None:
    if isinstance(step, str):
        return option.get("properties", {}).get(step)
    items: Sequence[Schema] = option.get("prefixItems", ())
    return items[step] if step < len(items) else option.get("items")


def _options(part: Schema, schema: Schema) -> Iterator[Schema]:
    part = _resolved(part, schema)
    if "anyOf" not in part:
        yield part
    for option in part.get("anyOf", ()):
        yield from _options(option, schema)


def _resolved(part: Schema, schema: Schema) -> Schema:
    return schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def _keys(part: Schema) -> str:
    return ", ".join(sorted(part.get("properties", ())))


def _shown(value: object) -> str:
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _kind(value: object) -> str:
    return f" ({_NOUNS[_KINDS[type(value)]]})" if type(value) in _KINDS else ""
