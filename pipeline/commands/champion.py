"""`mobanet registry promote | rollback | reject | rescore`: change which version is the champion."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.common.errors import ParamsError
from pipeline.commands.versions import AS_JSON, NAME, PARAMS, VERSION, config_of, print_gates, print_json, trust_of
from pipeline.presets.preset import PARAMS_FILE

if TYPE_CHECKING:
    from components.register.decisions import Decision

BECAUSE = Annotated[str, typer.Option(metavar="TEXT", help="Reason, for the history.")]


def promote(
    version: VERSION,
    force: Annotated[bool, typer.Option("--force", help="Promote it although a gate fails or it is rejected.")] = False,
    because: Annotated[str, typer.Option(metavar="TEXT", help="Reason, for the history; needed by --force.")] = "",
    name: NAME = None,
    params: PARAMS = PARAMS_FILE,
    as_json: AS_JSON = False,
) -> None:
    """Make a version the champion if it passes every gate against the current champion.

    The version is read back from the registry and checked first. The command fails if another champion is made in the
    meantime.

    With --json: name, version, champion, changed, outcome, gates, event.

    Exit 0: it is the champion. Exit 1: it fails a gate. Exit 2: the change is refused, for example a rejected version.
    """
    from components.register import decisions
    from components.register.inspection import lookup

    if force and not because.strip():
        raise ParamsError("--force needs a reason; add --because TEXT")
    config, trust = config_of(params), trust_of(params)
    asked = lookup.Reference.of(version, name or config.model_name)
    with lookup.opened(asked.name) as registry:
        why = because or "passed every gate"
        found = lookup.find_to_change(registry, asked.key)
        result = decisions.promote(registry, found, config, trust, why=why, forced=force)
    _report(result, as_json)
    raise typer.Exit(0 if result.champion == result.version else 1)


def rollback(because: BECAUSE, name: NAME = None, params: PARAMS = PARAMS_FILE, as_json: AS_JSON = False) -> None:
    """Make the previous champion the champion again.

    With --json: name, version, champion, changed, outcome, gates, event.
    """
    from components.register import decisions
    from components.register.inspection import lookup

    with lookup.opened(name or config_of(params).model_name) as registry:
        result = decisions.rollback(registry, trust_of(params), why=because)
    _report(result, as_json)


def reject(
    version: VERSION, because: BECAUSE, name: NAME = None, params: PARAMS = PARAMS_FILE, as_json: AS_JSON = False
) -> None:
    """Reject a version: only `promote --force` can make it the champion. It loses its aliases.

    With --json: name, version, champion, changed, outcome, gates, event.
    """
    from components.register import decisions
    from components.register.inspection import lookup

    asked = lookup.Reference.of(version, name or config_of(params).model_name)
    with lookup.opened(asked.name) as registry:
        result = decisions.reject(registry, lookup.find_to_change(registry, asked.key), why=because)
    _report(result, as_json)


def rescore(
    version: VERSION,
    raw: Annotated[Path, typer.Option(metavar="DIR", help="Raw tiles of the acquire step.")] = Path("data/raw"),
    because: BECAUSE = "scored on other data",
    name: NAME = None,
    params: Annotated[Path, typer.Option(metavar="FILE", help="Split, evaluation and export.")] = PARAMS_FILE,
    as_json: AS_JSON = False,
) -> None:
    """Score a registered version on the raw tiles, and register it again with the new scores.

    The inputs are made from the raw tiles with the heights, bands and pixel range of the model, whatever the section
    preprocess says. The new version has the same weights and takes over the aliases of the old one.

    With --json: name, version, champion, changed, outcome, gates, event.
    """
    from components.register import decisions
    from components.register.inspection import lookup
    from pipeline import rescoring

    settings, trust = rescoring.Settings.of(params), trust_of(params)
    asked = lookup.Reference.of(version, name or config_of(params).model_name)
    with lookup.opened(asked.name) as registry:
        decisions.require_settled(registry)  # before the work, not after it
        old = lookup.find(registry, asked.key)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "package"
        facts = rescoring.rescore(f"models:/{asked.name}/{old.number}", raw, settings, package)
        with lookup.opened(asked.name) as registry:
            result = decisions.replace_scores(registry, old, package, facts.mlflow_run_id, trust, why=because)
    _report(result, as_json)


def _report(result: Decision, as_json: bool) -> None:
    if as_json:
        print_json(asdict(result))
        return
    if result.gates:
        print_gates(result.gates)
    typer.echo(result.outcome)
