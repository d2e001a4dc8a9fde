"""Read and write YAML 1.2, the dialect that DVC writes: `5e-05` and `1e-3` are numbers, `yes` and `on` are strings.

A key that is given twice is an error. Dates are strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import YAMLError

from components.common.errors import ParamsError, reason


class _Constructor(SafeConstructor):
    """The values of YAML 1.2, with dates as strings."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def read_yaml(path: Path, *, strings: bool = False) -> Mapping[str, Any]:
    """The content of a YAML file whose top level is a mapping.

    Args:
        path: the file.
        strings: read every scalar as a string; `2_10` would be a number otherwise.

    Raises:
        ParamsError: the file is missing, is not valid YAML, or its top level is not a mapping.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ParamsError(
            f"{path}: no such file; run the command in the project folder, or pass the path of another file"
        ) from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror}); pass the path of a YAML file") from None
    document = parse_yaml(content, str(path), strings=strings)
    if not isinstance(document, Mapping):
        raise ParamsError(f"{path}: not a mapping of names to values; compare it with the project's own files")
    return document


def parse_yaml(text: str | bytes, where: str, *, strings: bool = False) -> Any:
    """The content of a YAML text.

    Args:
        text: one YAML document.
        where: its file or parameter, for messages.
        strings: read every scalar as a string.

    Raises:
        ParamsError: the text is not valid YAML, or a key is given twice.
    """
    try:
        return _yaml("base" if strings else "safe").load(text)
    except DuplicateKeyError as error:
        key = " ".join(str(error.problem).removeprefix('found duplicate key "').partition('" with value')[0].split())
        raise ParamsError(
            f"{where}:{error.problem_mark.line + 1}: the key {key} is given twice; remove one of them"
        ) from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        problem = " ".join(str(getattr(error, "problem", None) or reason(error)).split())
        raise ParamsError(f"{place}: not valid YAML ({problem}); fix that line") from None
    except RecursionError:
        raise ParamsError(f"{where}: not valid YAML (too many nested brackets); remove some") from None
    except (ValueError, OverflowError, TypeError) as error:  # a number that Python cannot read, such as 5000 digits
        raise ParamsError(f"{where}: not valid YAML ({reason(error)}); correct that value") from None


def dump_yaml(document: Mapping[str, Any], *, one_line: bool = False) -> str:
    """A mapping as a YAML text, its keys in the given order.

    Args:
        document: mappings, lists, strings, numbers, booleans and None.
        one_line: write one line, with brackets instead of indentation.
    """
    yaml, text = _yaml("safe"), StringIO()
    yaml.default_flow_style = one_line
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # declared as None
    yaml.width = 1_000_000
    yaml.allow_unicode = True
    yaml.dump(document, text)
    return text.getvalue()


def _yaml(kind: str) -> YAML:
    yaml = YAML(typ=kind, pure=True)  # the C parser reads YAML 1.1 only
    if kind == "safe":
        yaml.Constructor = _Constructor
    return yaml
