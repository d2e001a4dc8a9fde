"""Make a package a version of a registered model: check its files, upload it, describe it, and read it back.

The same package is never uploaded twice. No alias moves here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from components.common.errors import DataError, MobanetError, TrackingError, WeightsError
from components.common.tracking import server
from components.common.tracking.answers import UnreachableError
from components.common.tracking.packages import (
    EVALUATION,
    MODEL_FILE,
    RECORD,
    SIGNATURE,
    package_digest,
    read_record,
    verify_files,
    verify_statement,
)
from components.common.tracking.registered_models import resolve, side_files
from components.common.trust.config import TrustConfig
from components.common.trust.signature_check import UNCHECKED, SignatureCheck, check_package
from components.register.history.registry import Registry
from components.register.promotion import PromotionRecord
from components.register.uploads.logged_model import Origin, restore, upload
from components.register.uploads.readback import read_back
from components.register.uploads.version_tags import sentence_of, tags_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A package that can be registered."""

    folder: Path
    record: Mapping[str, Any]  # content of its `export.json`
    evaluation: Mapping[str, Any]  # content of its `evaluation.json`
    figures: PromotionRecord
    signature: SignatureCheck

    @classmethod
    def of(cls, package: Path, trust: TrustConfig = UNCHECKED) -> Candidate:
        """Read a package and check all its files, and its signature as the section `trust` demands.

        Raises:
            TrustError: the signature is wrong, or missing although it is required.
            DataError: a file is missing, damaged or changed since the export, or the statement is about other files.
            WeightsError: a weight is NaN or infinite.
        """
        verify_files(package)
        signature = check_package(package, trust)
        verify_statement(package)
        record, evaluation = read_record(package), read_json(package / EVALUATION)
        try:
            figures = PromotionRecord.of(evaluation, record)
        except (KeyError, TypeError, AttributeError):
            raise DataError(
                f"{package}: {RECORD} or {EVALUATION} is damaged or of an earlier release; run the steps evaluate and "
                "export again"
            ) from None
        _require_finite(package / MODEL_FILE)
        return cls(package, record, evaluation, figures, signature)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A package in the registry."""

    version: str
    created: bool  # False: this package was already registered
    run_id: str | None  # MLflow run of the training, if the registry's store has it


def admit(registry: Registry, candidate: Candidate, run_id: str | None, trust: TrustConfig = UNCHECKED) -> Admitted:
    """Make a package a version, unless it is one already, and read the version back from the registry.

    If the registry has lost or changed files of a known version, they are uploaded again. So is a signature that the
    known version does not have yet.

    Args:
        registry: the registered model.
        candidate: the package.
        run_id: MLflow run of the training; None: not tracked.
        trust: section `trust`, for the copy that is read back.

    Raises:
        TrackingError: the upload fails, or the version that is read back is not the package.
        MlflowException: MLflow rejects a request.
    """
    origin = _origin(registry, run_id)
    tags = tags_of(candidate.record, candidate.evaluation, candidate.figures, origin.run_id)
    known = registry.find(package_digest(candidate.record["sha256"]))
    if known is None:
        model_id = upload(registry.ledger.client, candidate.folder, candidate.record, origin)
        version = registry.add(model_id, origin.run_id, tags)
        log.info("registered as version %s of %s", version, registry.name)
    else:
        version = known
        log.info("this package is already registered as version %s of %s", version, registry.name)
    registry.describe(version, tags, sentence_of(candidate.record, candidate.figures))
    try:
        if known is not None:
            _require_signature_too(registry, version, candidate)
        read_back(registry.name, version, trust)
    except UnreachableError:
        raise
    except MobanetError as error:
        if known is None:
            raise
        log.warning("version %s of %s cannot be used; its files are uploaded again (%s)", version, registry.name, error)
        _restore(registry, version, candidate)
        read_back(registry.name, version, trust)
    return Admitted(version, known is None, origin.run_id)


def _require_signature_too(registry: Registry, version: str, candidate: Candidate) -> None:
    """Find a signature that a known version lacks; no signature is part of the identity of a package."""
    uri = f"models:/{registry.name}/{version}"
    if (candidate.folder / SIGNATURE).is_file() and SIGNATURE not in side_files(resolve(uri, "the version")):
        raise TrackingError(f"{uri}: no {SIGNATURE}, but the package has one")


def _restore(registry: Registry, version: str, candidate: Candidate) -> None:
    """Upload the files of a version again; their checksums are its identity, so it stays the same version."""
    model_id = next((known.model_id for known in registry.versions() if known.number == version), None)
    if model_id is None:
        raise TrackingError(f"version {version} of {registry.name} has no logged model; delete this version in MLflow")
    restore(registry.ledger.client, model_id, candidate.folder, candidate.record)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file of an earlier step.

    Raises:
        DataError: the file is missing or damaged.
    """
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


def _origin(registry: Registry, run_id: str | None) -> Origin:
    """Experiment and run of the training; if the store does not have the run, an experiment named like the model."""
    client = registry.ledger.client
    if run_id is not None and server.is_known(client, run_id):
        return Origin(client.get_run(run_id).info.experiment_id, run_id)
    if run_id is not None:
        log.warning("run %s is not in %s: the version is not linked to a run", run_id, server.address())
    return Origin(server.experiment_id(client, registry.name, "register.model_name"), None)
