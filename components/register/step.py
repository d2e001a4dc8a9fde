"""Register a package in MLflow: a version with its figures as tags, and the alias `champion` if it passes the gates.

In: the package folder, `reports/evaluation.json` and `models/run.json` of the same model. Out: a model version (the
existing one if the model is already registered), its aliases, and `reports/registration.json`. See docs/registry.md.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass
from safetensors import SafetensorError, safe_open

from components.common.errors import DataError, TrackingError, WeightsError, reason
from components.common.files import write_json
from components.common.metric_names import metric_name
from components.common.params import STRICT, Points
from components.common.tracking import server
from components.register import promotion
from components.register.promotion import Gate, PromotionRecord, Tolerances
from components.register.registry import PROMOTION_RECORD, SHA256, Registry
from components.register.serving import Origin, upload

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

FORMAT = 1
"""Format version of `registration.json`; increased when a current reader could misread an older file."""


ModelName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9._-]{1,200}$",
        description="at most 200 letters, digits, dots, dashes and underscores",
    ),
]


@checked_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class RegisterConfig:
    """Section `register` of params.yaml. The environment variable `MLFLOW_TRACKING_URI` sets the registry."""

    model_name: ModelName  # name of the registered model
    promote: bool  # False: a version that passes every gate stays the challenger
    max_fused_drop: Points  # how far the mIoU with both sensors may be below the champion's, percentage points
    max_worst_class_drop: Points  # the same for the IoU of the worst class, percentage points


@dataclass(frozen=True, slots=True)
class RegisterResult:
    """The result of a registration."""

    model_name: str
    version: str
    created: bool  # False: this model was already registered
    promoted: bool  # whether this call made it the champion
    champion: str | None  # version of the champion after this call; None: there is none
    outcome: str  # one sentence
    gates: tuple[Gate, ...]
    run_id: str | None  # MLflow run of the training, if the registry's store has it

    @property
    def may_be_promoted(self) -> bool:
        """Whether the version is not the champion yet and passes every gate."""
        return self.champion != self.version and all(gate.passed for gate in self.gates)

    def as_table(self) -> str:
        """The gates and the outcome, for a terminal."""
        heads = ("gate", "candidate", "champion", "must be", "")
        rows = [
            heads,
            *((g.name, g.candidate, g.champion, g.limit, "ok" if g.passed else "FAILED") for g in self.gates),
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*(lines if self.gates else []), self.outcome])


def run(config: RegisterConfig, package: Path, evaluation: Path, training_run: Path, out: Path) -> RegisterResult:
    """Register a package, and promote it if it passes the gates and `config.promote` is set.

    Args:
        config: section `register`.
        package: folder that the export step wrote.
        evaluation: `evaluation.json` of the same model.
        training_run: `run.json` of the training, with its MLflow run or null.
        out: path of `registration.json`, which is written.

    Raises:
        DataError: a file is missing or damaged, or belongs to another model than the package.
        WeightsError: a weight of the package is NaN or infinite.
        TrackingError: MLflow is not installed, cannot be reached, or rejects a request.
    """
    record, scores = _read(package / "export.json"), _read(evaluation)
    run_id = _read(training_run).get("mlflow_run_id")
    try:
        same = record["source_sha256"] == scores["protocol"]["model"]["sha256"]
        candidate, tags = PromotionRecord.of(scores), _tags(record, scores)
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{package / 'export.json'} or {evaluation}: damaged; run evaluate and export again") from None
    if not same:
        raise DataError(f"{evaluation}: not of the same model as {package}; run the export step again")
    _require_finite(package / "model.safetensors")
    client = server.connect()
    from mlflow.exceptions import MlflowException

    try:
        registry = Registry(client, config.model_name)
        origin = _origin(client, run_id, config.model_name)
        version, created = _version(registry, client, (package, evaluation), record, tags, origin)
        registry.describe(version, tags, _sentence(record, candidate))
        result = _decide(registry, version, created, candidate, config, origin.run_id)
    except MlflowException as error:
        raise TrackingError(f"the registry in {server.address()} rejected a request: {reason(error)}") from None
    write_json(out, {"format": FORMAT, SHA256: tags[SHA256]} | asdict(result))
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


def _tags(record: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, str]:
    """Tags to find a version by: figures, data version, code."""
    facts, protocol, headline = record["facts"], scores["protocol"], promotion.headline_scores(scores)
    tags = {
        SHA256: record["sha256"]["model.safetensors"],
        PROMOTION_RECORD: PromotionRecord.of(scores).to_json(),
        "git_commit": facts["git_commit"],
        "data_md5": protocol["data_md5"],
        "trained_on_data_md5": facts["data_md5"],
        "dataset": protocol["dataset"],
        "source": protocol["source"],
        "split": protocol["split"],
        "ground_truth": protocol["ground_truth"],
        "backbone": facts["network"]["backbone"],
        "step": facts["step"],
        "tool_version": facts["tool_version"],
        "weights_licence": facts.get("initial_weights", {}).get("licence", "unknown"),  # earlier packages have none
    }
    tags |= {f"balance.{name}": value for name, value in (scores["balance"] or {}).items()}
    tags |= {f"scores.{name}": value for name, value in headline.items() if name != "per_class"}
    tags |= {f"scores.iou.{name}": found["iou"] for name, found in headline["per_class"].items()}
    return {metric_name(name): str(value) for name, value in tags.items() if value is not None}


def _sentence(record: Mapping[str, Any], figures: PromotionRecord) -> str:
    balanced = "" if figures.expected_miou is None else f", expected mIoU {figures.expected_miou:.1f}"
    facts, protocol = record["facts"], figures.protocol
    return (
        f"{facts['network']['backbone']} on {protocol['dataset']}, split {protocol['split']}: "
        f"mIoU {figures.miou:.1f}{balanced}, worst class {figures.worst_class} {figures.worst_class_iou:.1f}."
    )


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
    files: tuple[Path, Path],
    record: Mapping[str, Any],
    tags: Mapping[str, str],
    origin: Origin,
) -> tuple[str, bool]:
    """The version of this model, and whether this call created it."""
    known = registry.find(tags[SHA256])
    if known is not None:
        log.info("this model is already registered as version %s of %s", known, registry.name)
        return known, False
    package, evaluation = files
    version = registry.add(upload(client, package, evaluation, record, origin), origin.run_id, tags)
    log.info("registered as version %s of %s", version, registry.name)
    return version, True


def _decide(
    registry: Registry,
    version: str,
    created: bool,
    candidate: PromotionRecord,
    config: RegisterConfig,
    run_id: str | None,
) -> RegisterResult:
    """Check the gates of a version and set the aliases."""
    champion = registry.champion()
    if champion == version:
        outcome = f"version {version} of {config.model_name} is already the champion; its figures are up to date"
        return RegisterResult(config.model_name, version, created, False, champion, outcome, (), run_id)
    registry.challenge(version)
    tolerances = Tolerances(config.max_fused_drop, config.max_worst_class_drop)
    theirs = None if champion is None else registry.promotion_record(champion)
    if champion is not None and theirs is None:
        verdicts: tuple[Gate, ...] = (promotion.UNKNOWN_CHAMPION,)
    else:
        verdicts = promotion.judge(candidate, theirs, tolerances)
    promoted = config.promote and all(gate.passed for gate in verdicts)
    if promoted:
        registry.promote(version, verdicts)
    outcome = _outcome(config.model_name, version, champion, verdicts, promoted)
    now = version if promoted else champion
    return RegisterResult(config.model_name, version, created, promoted, now, outcome, verdicts, run_id)


def _outcome(name: str, version: str, champion: str | None, verdicts: tuple[Gate, ...], promoted: bool) -> str:
    if promoted:
        return f"version {version} of {name} is the champion now; previous champion: {champion or 'none'}"
    failed = {gate.name for gate in verdicts if not gate.passed}
    reasons = ", ".join(sorted(failed)) or "promotion was not requested"
    stays = f"version {champion} stays the champion" if champion else "there is no champion"
    outcome = f"version {version} of {name} is not promoted ({reasons}); {stays}"
    if failed & {"data version", "protocol"}:
        outcome += "; evaluate the champion again on this data with these parameters, see docs/registry.md"
    return outcome
