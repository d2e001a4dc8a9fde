"""Change values in the text of a YAML file. Every other character stays: comments and their columns, blank lines."""

from __future__ import annotations

from collections.abc import Iterator

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node

Replacement = tuple[int, int, str]
"""Offsets of a value, start and end, and its new text."""


def with_values(text: str, changes: str, key: str) -> str:
    """A YAML text with values of another one, which are written as they are written there.

    Args:
        text: block mappings of values on one line each, with comments.
        changes: a YAML text.
        key: the top-level key of `changes` with the mapping of the changed values.

    Raises:
        KeyError: a changed value does not occur in `text`; the argument is its dotted key.
    """
    new = {name.value: value for name, value in _compose(changes).value}[key]
    for start, end, value in sorted(_replacements(_compose(text), new, changes), reverse=True):  # offsets stay valid
        rest = _aligned(text[end:], shorter=end - start - len(value))
        text = text[:start] + value + rest
    return text


def _replacements(old: Node, new: Node, changes: str, prefix: str = "") -> Iterator[Replacement]:
    values = {key.value: value for key, value in old.value}
    for key, value in new.value:
        name = f"{prefix}{key.value}"
        if key.value not in values:
            raise KeyError(name)
        target = values[key.value]
        if isinstance(target, MappingNode) and not target.flow_style:
            yield from _replacements(target, value, changes, f"{name}.")
        else:
            written = changes[value.start_mark.index : value.end_mark.index]
            yield target.start_mark.index, target.end_mark.index, written


def _aligned(rest: str, shorter: int) -> str:
    """The text after a value that became `shorter` characters shorter: a comment stays in its column if it can."""
    comment = rest.lstrip(" ")
    if not comment.startswith("#"):
        return rest
    return " " * max(2, len(rest) - len(comment) + shorter) + comment


def _compose(text: str) -> Node:
    return YAML(pure=True).compose(text)
