"""`mobanet data check`: check raw tiles before they are used."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.check.config import CheckConfig
from components.check.facts import TileFacts
from components.check.findings import CODES, SEVERITIES
from components.check.report import Report, as_document
from components.check.sources import open_source
from components.check.step import examine
from components.common.data import datasets
from components.common.data.datasets import KINDS, FileKind, Split
from components.common.params import read_yaml, section
from components.common.readers.footprints import pixel_size_m
from components.common.readers.tiles import reader_settings

PLAIN_WIDTH = 120
"""Width of the output if stdout is not a terminal, columns."""

COLOURS = {"error": "red", "warning": "yellow", "accepted": "cyan", "repaired": "green"}


def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Imported tree, or a folder as unpacked from ISPRS.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Data set, if file names do not identify it.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Check only the tiles of this split; default: all tiles.")
    ] = None,
    params: Annotated[Path, typer.Option(metavar="FILE", help="Limits and settings of the reader.")] = Path(
        "params.yaml"
    ),
) -> None:
    """Read every tile and report all known problems.

    Severities: `error` stops the pipeline, `warning` needs your attention, `accepted` is an error that check.accept
    lists, `repaired` is repaired by preprocess.

    Exit 0: no findings. Exit 1: findings. Exit 2: the check cannot run.
    """
    config, settings = section(params, "check", CheckConfig), reader_settings(read_yaml(params))
    source = open_source(folder, dataset)
    name = source.tree.dataset.name
    splits: tuple[Split, ...] = ()
    if split is not None:
        splits = (datasets.split(name, split),)
    elif name in datasets.names():
        splits = datasets.splits(name)
    report = examine(source.tree, splits, split is not None, config, settings, source.findings)
    if as_json:
        typer.echo(json.dumps(as_document(report), indent=2))
    else:
        print_report(report, Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH))
    raise typer.Exit(1 if report.findings else 0)


def print_report(report: Report, console: Console) -> None:
    """Print a report: a line per file, class shares, then the findings, most severe first."""
    console.print(_files(report))
    if report.class_shares is not None:
        console.print(_shares(report))
    for (severity, code), group in groupby(report.findings, key=lambda one: (one.severity, one.code)):
        found = list(group)
        title = Text.assemble((severity, f"bold {COLOURS[severity]}"), f"  {code}: {CODES[code].about} ({len(found)})")
        console.print(title)
        for one in found:
            console.print(Text(f"  {one.line}"), soft_wrap=True)
    counts = ", ".join(f"{report.counts[severity]} {severity}" for severity in SEVERITIES)
    console.print(f"{len(report.subject.tiles)} tiles of {report.subject.dataset.name}: {counts}")


def _files(report: Report) -> Table:
    table = Table("tile", "file", title=report.folder, title_justify="left", box=SIMPLE_HEAD)
    for column in ("px", "type", "bands", "pixel, m", "EPSG", "missing", "values", "snapped", "unknown"):
        table.add_column(column, justify="right", no_wrap=column != "values")
    for facts in report.subject.tiles.values():
        kinds = [kind for kind in KINDS if kind in facts.places]
        for number, kind in enumerate(kinds):
            tile = facts.tile if number == 0 else ""
            table.add_row(tile, kind, *_cells(facts, kind), end_section=number == len(kinds) - 1)
    return table


def _cells(facts: TileFacts, kind: FileKind) -> Iterator[str]:
    header, pixels = facts.files.get(kind), facts.pixels.get(kind)
    if header is None:
        yield "rejected" if facts.rejected(kind) else "not read"
        return
    size, crs = pixel_size_m(header.grid), header.grid.crs
    yield f"{header.grid.width_px} x {header.grid.height_px}"
    yield header.dtype
    yield str(header.bands)
    yield f"{size[0]:.4g}" if size else "-"
    yield str(crs.to_epsg() or "other") if crs else "-"
    label = {"label": facts.label, "eroded": facts.eroded}.get(kind)
    if pixels is None:
        yield "not read"
        return
    if label is not None:
        yield f"{100 * label.ignored_px / max(1, label.all_px):.1f} %"
        yield f"{sum(px > 0 for px in label.class_px)} classes"
        yield f"{100 * label.snapped_px / max(1, label.all_px):.3g} %"
        yield f"{100 * label.unknown_px / max(1, label.all_px):.3g} %"
        return
    yield f"{100 * pixels.missing_share:.1f} %"
    if kind == "dsm" and facts.dsm and facts.dsm.low_m is not None:
        yield f"{facts.dsm.low_m:.2f}..{facts.dsm.high_m:.2f} m"
    elif pixels.lowest is not None:
        yield f"{pixels.lowest:g}..{pixels.highest:g}"


def _shares(report: Report) -> Table:
    table = Table("class", title="share of the labelled pixels", title_justify="left", box=SIMPLE_HEAD)
    for column in ("found", "known", "difference"):
        table.add_column(column, justify="right")
    known = report.subject.dataset.class_shares
    for number, c in enumerate(report.subject.dataset.classes):
        found = (report.class_shares or ())[number]
        of_all = (f"{known[number]:.1f} %", f"{found - known[number]:+.1f}") if known else ("-", "-")
        table.add_row(c.name, f"{found:.1f} %", *of_all)
    return table
