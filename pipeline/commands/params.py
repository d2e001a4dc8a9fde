"""`mobanet params`: show, write and compare presets of params.yaml."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.common.errors import ParamsError
from components.common.files import replacing
from components.common.yaml_files import read_yaml
from pipeline.presets.preset import names, nearest, preset

NAME = Annotated[str, typer.Argument(metavar="NAME", help="A name of `mobanet params list`.")]
PARAMS = Annotated[Path, typer.Option(metavar="FILE", help="The params file.")]
PLAIN_WIDTH = 120
"""Width of a table if stdout is not a terminal, columns."""


def list_() -> None:
    """List the presets: name, what each needs, and what it is for."""
    table = Table("name", "needs", "description", box=SIMPLE_HEAD)
    for one in map(preset, names()):
        table.add_row(one.name, one.needs, one.about)
    table.columns[0].no_wrap = True
    _console().print(table)


def show(name: NAME) -> None:
    """Print the complete params.yaml of a preset, with comments. It changes no file."""
    typer.echo(preset(name).text, nl=False)


def use(name: NAME, params: PARAMS = Path("params.yaml")) -> None:
    """Write a preset to params.yaml, and keep the previous file.

    The previous file becomes params.yaml.bak, or params.yaml.bak.1 and so on if there is an earlier one. If params.yaml
    is a link, the file that it points to is replaced. The command then lists the keys that you must edit. `dvc repro`
    runs the steps that the new values affect.
    """
    chosen = preset(name)
    backup, target = _backup(params), params.resolve()  # a link stays a link
    mode = target.stat().st_mode if target.exists() else None
    with replacing(target) as draft:
        draft.write_text(chosen.text)
    if mode is not None:
        target.chmod(stat.S_IMODE(mode))
    kept = f"; the previous file is {backup}" if backup else ""
    typer.echo(f"{params} now contains the preset {name}{kept}", err=True)
    for key, value in chosen.edit.items():
        typer.echo(f"edit {key}: {value}", err=True)


def diff(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A name of `mobanet params list`; default: the nearest one.")
    ] = None,
    params: PARAMS = Path("params.yaml"),
) -> None:
    """List the keys in which params.yaml differs from a preset.

    Without a name it compares with the preset that has the fewest differences.
    """
    if not params.is_file():
        raise ParamsError(
            f"{params} is not a file; run the command in the project folder, or pass another file with --params"
        )
    given = read_yaml(params)
    chosen = preset(name) if name else nearest(given)
    found = chosen.differences(given)
    if not found:
        typer.echo(f"{params} has the values of the preset {chosen.name}")
        return
    table = Table("key", "yours", f"preset {chosen.name}", box=SIMPLE_HEAD)
    for key, (yours, theirs) in found.items():
        table.add_row(key, Text(_shown(yours)), Text(_shown(theirs)))
    table.columns[0].no_wrap = True
    _console().print(table)


def _backup(params: Path) -> Path | None:
    """Copy a file to the first free name of FILE.bak, FILE.bak.1 and so on; None: there is no file."""
    try:
        content = params.read_bytes()
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raise ParamsError(f"{params} is a folder; pass the path of a file with --params") from None
    number = 0
    while True:
        target = params.with_name(f"{params.name}.bak{f'.{number}' if number else ''}")
        try:
            with target.open("xb") as file:
                file.write(content)
            shutil.copymode(params, target)
            return target
        except FileExistsError:
            number += 1


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
