"""`mobanet registry list | show | compare | history | verify | gc`: look at registered versions, and check them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.common.errors import ParamsError
from components.common.files import without_nan
from components.common.params import section
from components.common.trust.config import TrustConfig
from components.register.config import RegisterConfig
from pipeline.presets.preset import PARAMS_FILE, named_or_shipped

if TYPE_CHECKING:
    from components.register.promotion import Gate

PLAIN_WIDTH = 160
"""Width of a table if stdout is not a terminal, columns."""

VERSION_HELP = "NAME@ALIAS, NAME/VERSION, or a version or alias of --name."
VERSION = Annotated[str, typer.Argument(metavar="VERSION", help=VERSION_HELP)]
NAME = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Registered model; default: register.model_name.")
]
PARAMS = Annotated[
    Path,
    typer.Option(metavar="FILE", help="Sections register and trust; without params.yaml, the shipped defaults."),
]
AS_JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def list_(name: NAME = None, params: PARAMS = PARAMS_FILE, as_json: AS_JSON = False) -> None:
    """List the versions of a registered model, newest first.

    State: the first alias of the version (champion, challenger, previous-champion), rejected, incomplete (without
    figures), or older release.

    With --json, a list of: version, state, aliases, expected_miou, miou, worst_class, worst_iou, dataset, split,
    raw_md5, git_commit, created, package_sha256.
    """
    from components.register.inspection import lineage, lookup

    with lookup.opened(name or config_of(params).model_name) as registry:
        rows = lineage.rows(registry)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    table = Table("version", "state", box=SIMPLE_HEAD)
    for column in ("E(p)", "mIoU", "worst class", "IoU"):
        table.add_column(column, justify="left" if column == "worst class" else "right")
    for column in ("data set", "split", "data version", "commit", "created"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        figures = (_points(row.expected_miou), _points(row.miou), row.worst_class or "-", _points(row.worst_iou))
        origin = (row.dataset or "-", row.split or "-", _short(row.raw_md5), _short(row.git_commit))
        table.add_row(row.version, row.state or "-", *map(Text, (*figures, *origin, row.created[:16])))
    console().print(table)


def show(version: VERSION, name: NAME = None, params: PARAMS = PARAMS_FILE, as_json: AS_JSON = False) -> None:
    """Show everything about a version: figures, files, data, code, parameters, run, Kubeflow, history.

    With --json, the keys of a row of `list` plus: name, uri, description, checkout, data, files, test, validation,
    parameters, run_id, run_page, kubeflow_run, image, missing, events.
    """
    from components.register.inspection import lineage, lookup

    asked = lookup.Reference.of(version, name or config_of(params).model_name)
    with lookup.opened(asked.name) as registry:
        found = lineage.lineage_of(registry, lookup.find(registry, asked.key))
    content = asdict(found)
    row = content.pop("row")
    if as_json:
        print_json(row | content)
        return
    single = {"uri": found.uri, "description": found.description, "state": found.row.state or "no alias"}
    origin = {"commit": found.row.git_commit, "checkout": found.checkout, **found.data}
    tracked = {"MLflow run": found.run_page or found.run_id, "Kubeflow run": found.kubeflow_run, "image": found.image}
    groups: Mapping[str, Mapping[str, object]] = {
        "version": single | {"identity": found.row.package_sha256, "created": found.row.created},
        "origin": origin,
        "run": tracked,
        "test tiles": found.test,
        "validation tiles": found.validation,
        "parameters of the run": found.parameters,
        "files, sha256": found.files,
    }
    for title, values in groups.items():
        _print_group(title, values)
    print_events(content["events"])
    for sentence in found.missing:
        typer.echo(f"not readable: {sentence}", err=True)


def compare(
    candidate: VERSION, champion: VERSION, name: NAME = None, params: PARAMS = PARAMS_FILE, as_json: AS_JSON = False
) -> None:
    """Judge a version as a candidate against another one, with the gates of params.yaml. It changes nothing.

    With --json: candidate, champion, passed, gates (name, candidate, champion, difference, limit, passed).

    Exit 0: the candidate passes every gate. Exit 1: it fails one.
    """
    from components.register import decisions
    from components.register.inspection import lookup

    config, trust = config_of(params), trust_of(params)
    ours, theirs = (lookup.Reference.of(text, name or config.model_name) for text in (candidate, champion))
    with lookup.opened(ours.name) as mine, lookup.opened(theirs.name) as other:
        first, second = lookup.find(mine, ours.key), lookup.find(other, theirs.key)
        found = decisions.compare(mine, first, other, second, config, trust)
    if as_json:
        print_json(asdict(found) | {"passed": found.passed})
    else:
        print_gates(found.gates)
        verdict = "passes every gate" if found.passed else "fails a gate"
        typer.echo(f"version {found.candidate} {verdict} against version {found.champion}")
    raise typer.Exit(0 if found.passed else 1)


def history(name: NAME = None, params: PARAMS = PARAMS_FILE, as_json: AS_JSON = False) -> None:
    """List all changes of the aliases: when, what, who, why.

    With --json, a list of: number, time, kind, version, expects, sets, who, why, gates, digest, forced, found,
    replaces, applied, lost, id.
    """
    from components.register.inspection import lookup

    with lookup.opened(name or config_of(params).model_name) as registry:
        events = [asdict(event) for event in registry.history().events]
    if as_json:
        print_json(events)
    else:
        print_events(events)


def verify(
    version: Annotated[str, typer.Argument(metavar="VERSION", help=VERSION_HELP)] = "champion",
    adopt: Annotated[bool, typer.Option("--adopt", help="First accept aliases that were changed by hand.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="First revert aliases that were changed by hand.")] = False,
    force: Annotated[bool, typer.Option("--force", help="With --adopt: accept a rejected version too.")] = False,
    because: Annotated[str, typer.Option(metavar="TEXT", help="Reason for --adopt or --undo.")] = "",
    name: NAME = None,
    params: PARAMS = PARAMS_FILE,
    as_json: AS_JSON = False,
) -> None:
    """Check a version: the history of the aliases, files, signature, evaluation, tags, run and stored crops.

    With --json: name, version, passed, first_broken, links (name, passed, detail).

    Exit 0: every link holds. Exit 1: a link is broken, the first one is named.
    """
    from components.register import decisions
    from components.register.inspection import lookup, verification

    if adopt and undo:
        raise ParamsError("--adopt and --undo exclude each other; pass one of them")
    if (adopt or undo) and not because.strip():
        raise ParamsError("--adopt and --undo need a reason; add --because TEXT")
    asked = lookup.Reference.of(version, name or config_of(params).model_name)
    with lookup.opened(asked.name) as registry:
        if adopt:
            typer.echo(decisions.adopt(registry, why=because, forced=force).outcome, err=True)
        if undo:
            typer.echo(decisions.undo(registry, why=because).outcome, err=True)
        found = lookup.find_to_change(registry, asked.key)
        links = verification.verify(registry, found, trust_of(params))
    broken = verification.first_broken(links)
    if as_json:
        content = {"name": asked.name, "version": found.number, "passed": broken is None}
        first = None if broken is None else broken.name
        print_json(content | {"first_broken": first, "links": [asdict(link) for link in links]})
    else:
        for link in links:
            typer.echo(f"{'ok' if link.passed else 'BROKEN':7} {link.name:11} {link.detail}")
        last = "every link holds" if broken is None else f"the first broken link is {broken.name}"
        typer.echo(f"models:/{asked.name}/{found.number}: {last}")
    raise typer.Exit(0 if broken is None else 1)


def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Delete what was found, instead of marking it.")] = False,
    min_age: Annotated[
        float, typer.Option(metavar="HOURS", min=0, help="Leave younger uploads alone, which may be in progress.")
    ] = 24.0,
    name: NAME = None,
    params: PARAMS = PARAMS_FILE,
    as_json: AS_JSON = False,
) -> None:
    """Find interrupted uploads and versions without files, and mark them with the tag `unusable`.

    Versions with an alias or an entry in the history are reported only. `mlflow gc` frees the space of what --delete
    has deleted.

    With --json, a list of: kind (upload or version), id, problem, action (marked, deleted or kept).
    """
    from components.register.inspection import collection, lookup

    with lookup.opened(name or config_of(params).model_name) as registry:
        found = collection.collect(registry, delete=delete, min_age_h=min_age)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    for one in found:
        typer.echo(f"{one.action:8} {one.kind} {one.id}: {one.problem}")
    typer.echo(f"{len(found)} leftovers of interrupted registrations", err=True)


def config_of(params: Path) -> RegisterConfig:
    """Section `register` of a params file; that of the shipped one if the default file does not exist.

    Raises:
        ParamsError: a file that the user named does not exist, or the section is wrong.
    """
    return section(named_or_shipped(params), "register", RegisterConfig)


def trust_of(params: Path) -> TrustConfig:
    """Section `trust` of a params file; that of the shipped one if the default file does not exist.

    Raises:
        ParamsError: a file that the user named does not exist, or the section is wrong.
    """
    return section(named_or_shipped(params), "trust", TrustConfig)


def print_json(content: Any) -> None:
    """Print JSON to stdout."""
    typer.echo(json.dumps(without_nan(content), indent=2))


def print_gates(gates: tuple[Gate, ...]) -> None:
    """Print the gates as a table: candidate, champion, difference, limit, verdict."""
    from components.register.step import HEADS, gate_rows

    table = Table(box=SIMPLE_HEAD)
    for head in HEADS:
        table.add_column(head, justify="right" if head in ("candidate", "champion", "difference") else "left")
    for gate, (*cells, verdict) in zip(gates, gate_rows(gates), strict=True):
        table.add_row(*map(Text, cells), Text(verdict, "" if gate.passed else "bold red"))
    console().print(table)


def print_events(events: Iterable[Mapping[str, Any]]) -> None:
    """Print entries of the history as a table."""
    table = Table("number", "time", "change", "version", "aliases", "who", "why", box=SIMPLE_HEAD)
    for event in events:
        moves = ", ".join(f"{alias}: {version or 'none'}" for alias, version in event["sets"].items())
        change = f"{event['kind']}{', forced' if event['forced'] else ''}{', no effect' if event['lost'] else ''}"
        cells = (change, event["version"] or "-", moves or "-", event["who"], event["why"])
        table.add_row(str(event["number"]), event["time"][:19], *map(Text, cells))
    console().print(table)


def console() -> Console:
    """A console for tables: as wide as the terminal, or `PLAIN_WIDTH` columns."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def _print_group(title: str, values: Mapping[str, object]) -> None:
    if not values:
        return
    typer.echo(title)
    width = max(map(len, values))
    for key, value in values.items():
        shown = f"{value:.2f}" if isinstance(value, float) else "-" if value is None else str(value)
        typer.echo(f"  {key:{width}}  {shown}")


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _short(text: str | None) -> str:
    return "-" if text is None else text[:8] + ("-dirty" if text.endswith("-dirty") else "")
