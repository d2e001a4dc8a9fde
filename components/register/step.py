"""Register a package in MLflow: a version with its figures as tags, and the alias `champion` if it passes the gates.

In: the package folder, with the evaluation in it, and `models/run.json` of the training. Out: a model version (the
existing one if this package is already registered), its aliases, and `reports/registration.json`. The version is read
back from the registry before an alias moves. See docs/registry.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from components.common.errors import TrackingError
from components.common.files import write_json
from components.common.tracking import server
from components.common.tracking.packages import MODEL_FILE, package_digest
from components.common.tracking.registered_models import PACKAGE_SHA256, SHA256
from components.common.trust.config import TrustConfig
from components.common.trust.signature_check import UNCHECKED
from components.register import promotion
from components.register.config import RegisterConfig
from components.register.history import aliases
from components.register.history.aliases import Settled
from components.register.history.registry import Registry
from components.register.promotion import Gate
from components.register.uploads.admission import Admitted, Candidate, admit, read_json

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


HEADS = ("gate", "candidate", "champion", "difference", "must be", "verdict")
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


def run(
    config: RegisterConfig, package: Path, training_run: Path, out: Path, trust: TrustConfig = UNCHECKED
) -> RegisterResult:
    """Register a package, and promote it if it passes the gates and `config.promote` is set.

    Args:
        config: section `register`.
        package: folder that the export step wrote.
        training_run: `run.json` of the training, with its MLflow run or null.
        out: path of `registration.json`, which is written.
        trust: section `trust`: whose packages are registered.

    Raises:
        TrustError: the signature of the package is wrong, or missing although it is required.
        DataError: a file is missing, damaged or changed since the export.
        WeightsError: a weight of the package is NaN or infinite.
        TrackingError: MLflow is not installed, cannot be reached, or rejects a request; or the version that is read
            back is not the package.
        ConflictError: another champion was made while this package was judged.
    """
    candidate = Candidate.of(package, trust)
    run_id = read_json(training_run).get("mlflow_run_id")
    client = server.connect()
    from mlflow.exceptions import MlflowException

    try:
        registry = Registry.open(client, config.model_name)
        settled = aliases.settle(registry)
        admitted = admit(registry, candidate, run_id, trust)
        result = _decide(registry, admitted, candidate, config, settled)
    except MlflowException as error:
        raise TrackingError(f"the registry in {server.address()} rejected a request: {server.quoted(error)}") from None
    files = candidate.record["sha256"]
    identity = {SHA256: files[MODEL_FILE], PACKAGE_SHA256: package_digest(files)}
    write_json(out, {"format": FORMAT} | identity | asdict(result))
    return result


def _decide(
    registry: Registry,
    admitted: Admitted,
    candidate: Candidate,
    config: RegisterConfig,
    settled: Settled,
) -> RegisterResult:
    """Check the gates of a version and set the aliases."""
    name, champion = config.model_name, registry.champion()
    version, created, run_id = admitted.version, admitted.created, admitted.run_id
    if champion == version:
        outcome = f"version {version} of {name} is already the champion; all its files can be read from the registry"
        return RegisterResult(name, version, created, False, champion, outcome, (), run_id)
    theirs = None if champion is None else registry.promotion_record(champion)
    verdicts = promotion.judge(candidate.figures, theirs, config, first=champion is None, signature=candidate.signature)
    barrier = _barrier(registry, version, settled)
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


def _barrier(registry: Registry, version: str, settled: Settled) -> str | None:
    """Why no alias may move, whatever the gates say."""
    if settled.by_hand:
        return f"{settled.sentence(registry.name)}, then register again"
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
    if promotion.UNKNOWN_CHAMPION in verdicts or failed & promotion.COMPARISON_GATES:
        outcome += f"; run `mobanet registry rescore {name}@champion`, which scores the champion on this data"
    return outcome
