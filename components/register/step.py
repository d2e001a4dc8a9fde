"""Register a package in MLflow: a version with its figures as tags, and the alias `champion` if it passes the gates.

In: the package folder, with the evaluation in it, and `models/run.json` of the training. Out: a model version (the
existing one if this package is already registered), its aliases, and `reports/registration.json`. The version is read
back from the registry before an alias moves. See docs/registry.md.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from components.common.errors import DataError, TrackingError, WeightsError, reason
from components.common.files import write_json
from components.common.tracking import server
from components.common.tracking.packages import package_digest, read_record, verify_files
from components.register import aliases, promotion
from components.register.config import RegisterConfig
from components.register.logged_model import Origin, upload
from components.register.promotion import Gate, PromotionRecord
from components.register.readback import read_back
from components.register.registry import PACKAGE_SHA256, SHA256, Registry
from components.register.version_tags import sentence_of, tags_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

FORMAT = 2
"""Format version of `registration.json`; increased when a current reader could misread an older file."""


@dataclass(frozen=True, slots=True)
class RegisterResult:
    """The result of a registration."""

    model_name: str
    version: str
    created: bool  # False: this package was already registered
    promoted: bool  # whether this call made it the champion
    champion: str | None  # version of the champion after this call; None: there is none
    outcome: str  # one sentence
    gates: tuple[Gate, ...]
    run_id: str | None  # MLflow run of the training, if the registry's store has it
    allowed: bool = True  # False: the version is rejected, or aliases were changed by hand

    @property
    def may_be_promoted(self) -> bool:
        """Whether the version is not the champion yet and passes every gate."""
        return self.allowed and self.champion != self.version and all(gate.passed for gate in self.gates)

    def as_table(self) -> str:
        """The gates and the outcome, for a terminal."""
        return "\n".join([*gate_lines(self.gates), self.outcome])


HEADS = ("gate", "candidate", "champion", "difference", "must be", "")
"""Heads of the table of gates."""


def gate_rows(gates: tuple[Gate, ...], failed: str = "FAILED") -> list[tuple[str, ...]]:
    """Cells of the table of gates, without heads."""
    return [(g.name, g.candidate, g.champion, g.difference, g.limit, "ok" if g.passed else failed) for g in gates]


def gate_lines(gates: tuple[Gate, ...]) -> list[str]:
    """The table of gates for a terminal; no line if there is no gate."""
    if not gates:
        return []
    rows = [HEADS, *gate_rows(gates)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def run(config: RegisterConfig, package: Path, training_run: Path, out: Path) -> RegisterResult:
    """Register a package, and promote it if it passes the gates and `config.promote` is set.

    Args:
        config: section `register`.
        package: folder that the export step wrote.
        training_run: `run.json` of the training, with its MLflow run or null.
        out: path of `registration.json`, which is written.

    Raises:
        DataError: a file is missing, damaged or changed since the export.
        WeightsError: a weight of the package is NaN or infinite.
        TrackingError: MLflow is not installed, cannot be reached, or rejects a request; or the version that is read
            back is not the package.
        ConflictError: another champion was made while this package was judged.
    """
    verify_files(package)
    record, evaluation = read_record(package), _read(package / "evaluation.json")
    run_id = _read(training_run).get("mlflow_run_id")
    try:
        candidate = PromotionRecord.of(evaluation, record)
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{package}: export.json or evaluation.json is damaged; run the export step again") from None
    _require_finite(package / "model.safetensors")
    client = server.connect()
    from mlflow.exceptions import MlflowException

    try:
        registry = Registry.open(client, config.model_name)
        settled = aliases.settle(registry)
        origin = _origin(client, run_id, config.model_name)
        tags = tags_of(record, evaluation, candidate, origin.run_id)
        version, created = _version(registry, client, package, record, tags, origin)
        registry.describe(version, tags, sentence_of(record, candidate))
        read_back(config.model_name, version)
        result = _decide(registry, version, created, candidate, config, origin.run_id, settled.by_hand)
    except MlflowException as error:
        raise TrackingError(f"the registry in {server.address()} rejected a request: {reason(error)}") from None
    write_json(out, {"format": FORMAT, SHA256: tags[SHA256], PACKAGE_SHA256: tags[PACKAGE_SHA256]} | asdict(result))
    return result


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run the steps before register first") from None
    except ValueError:
        raise DataError(f"{path}: damaged; run the step that writes this file again") from None
    return content


def _require_finite(weights: Path) -> None:
    try:
        with safe_open(weights, "np") as file:
            names = list(file.keys())
            bad = next((name for name in names if not np.isfinite(file.get_tensor(name)).all()), None)
    except (SafetensorError, OSError):
        raise DataError(f"{weights}: missing or damaged; run the export step again") from None
    if bad is not None:
        raise WeightsError(f"{weights}: {bad} has a NaN or infinite value; train, evaluate and export another model")


def _origin(client: MlflowClient, run_id: str | None, experiment: str) -> Origin:
    """Experiment and run of the training; if the store does not have the run, an experiment named `experiment`."""
    if run_id is not None and server.is_known(client, run_id):
        return Origin(client.get_run(run_id).info.experiment_id, run_id)
    if run_id is not None:
        log.warning("run %s is not in %s: the version is not linked to a run", run_id, server.address())
    return Origin(server.experiment_id(client, experiment), None)


def _version(
    registry: Registry,
    client: MlflowClient,
    package: Path,
    record: Mapping[str, Any],
    tags: Mapping[str, str],
    origin: Origin,
) -> tuple[str, bool]:
    """The version of this package, and whether this call created it."""
    known = registry.find(package_digest(record["sha256"]))
    if known is not None:
        log.info("this package is already registered as version %s of %s", known, registry.name)
        return known, False
    version = registry.add(upload(client, package, record, origin), origin.run_id, tags)
    log.info("registered as version %s of %s", version, registry.name)
    return version, True


def _decide(
    registry: Registry,
    version: str,
    created: bool,
    candidate: PromotionRecord,
    config: RegisterConfig,
    run_id: str | None,
    by_hand: Mapping[str, object],
) -> RegisterResult:
    """Check the gates of a version and set the aliases."""
    name, champion = config.model_name, registry.champion()
    if champion == version:
        outcome = f"version {version} of {name} is already the champion; all its files can be read from the registry"
        return RegisterResult(name, version, created, False, champion, outcome, (), run_id)
    theirs = None if champion is None else registry.promotion_record(champion)
    verdicts = promotion.judge(candidate, theirs, config, first=champion is None)
    barrier = _barrier(registry, version, by_hand)
    if barrier is not None:
        outcome = f"version {version} of {name} is not promoted: {barrier}"
        return RegisterResult(name, version, created, False, champion, outcome, verdicts, run_id, allowed=False)
    aliases.challenge(registry, version, verdicts)
    promoted = config.promote and all(gate.passed for gate in verdicts)
    if promoted:
        aliases.promote(registry, version, champion, verdicts, why="passed every gate")
    outcome = _outcome(name, version, champion, verdicts, promoted)
    now = version if promoted else champion
    return RegisterResult(name, version, created, promoted, now, outcome, verdicts, run_id)


def _barrier(registry: Registry, version: str, by_hand: Mapping[str, object]) -> str | None:
    """Why no alias may move, whatever the gates say."""
    if by_hand:
        return (
            f"the alias {', '.join(sorted(by_hand))} was changed outside of this project; run `mobanet registry verify "
            "--adopt` to accept the change, or `--undo`, then register again"
        )
    if version in registry.rejected():
        return "it was rejected; see `mobanet registry history`"
    return None


def _outcome(name: str, version: str, champion: str | None, verdicts: tuple[Gate, ...], promoted: bool) -> str:
    if promoted:
        return f"version {version} of {name} is the champion now; previous champion: {champion or 'none'}"
    failed = {gate.name for gate in verdicts if not gate.passed}
    reasons = ", ".join(sorted(failed)) or "promotion was not requested"
    stays = f"version {champion} stays the champion" if champion else "there is no champion"
    outcome = f"version {version} of {name} is not promoted ({reasons}); {stays}"
    if promotion.UNKNOWN_CHAMPION.name in failed or failed & promotion.COMPARISON_GATES:
        outcome += f"; run `mobanet registry rescore {name}@champion`, which scores the champion on this data"
    return outcome
