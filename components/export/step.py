"""Package the selected model: weights, files for other runtimes, descriptions, and what later checks compare with.

In: `models/best.safetensors`, `reports/evaluation.json` of the same model, validation tiles of `data/store`. Out, in
the package folder, which is written atomically: `model.safetensors` (without the auxiliary heads, which only training
needs), the formats of `export.formats`, `evaluation.json`, `crops.safetensors` (crops with the logits that the model
must give), `reference.json` (statistics that production is compared with), the descriptions `README.md`,
`predict_example.py` and `stac_item.json`, and `export.json`, which records the checksums of these files and how each
format agrees with the network. The digest of the checksums is the identity of the package, so each of these files
depends on model, data and parameters only. Side files (software, origin, signature) are not part of it.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from components.common.data.datasets import Subset
from components.common.data.store import Store, Tile, read_manifest
from components.common.drift.reference_windows import FILE as REFERENCE
from components.common.drift.reference_windows import reference
from components.common.errors import DataError, StoreError
from components.common.files import digest, replacing_folder, write_json
from components.common.inference.model_inputs import require_inputs_of
from components.common.inference.modelfile import ModelFacts, load_model, save_model
from components.common.inference.stored_crops import FILE as CROPS
from components.common.inference.stored_crops import write_crops
from components.common.tracking.packages import (
    EVALUATION,
    FORMAT,
    MODEL_FILE,
    RECORD,
    SBOM,
    SIDE_FILES,
    STATEMENT,
    package_digest,
)
from components.common.trust.keys import private_key
from components.common.trust.signatures import sign
from components.export.config import ExportConfig
from components.export.descriptions.package_descriptions import write_descriptions
from components.export.origin.package_bom import package_bom
from components.export.origin.software import installed_packages
from components.export.origin.statement import Materials, statement
from components.export.parity.parity_cases import Reference, make_reference
from components.export.selected_formats import Entry, without_timings, write_formats
from model import MoBaNet

log = logging.getLogger(__name__)

SUBSET: Subset = "val"
"""Tiles of the crops and the statistics; they are not part of the scores."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The package that was written."""

    package: Path
    sha256: str  # of model.safetensors
    package_sha256: str  # identity of the package: digest of the checksums of all files
    formats: Mapping[str, Entry]  # name -> file, its comparison with the network, or why it was left out


def run(config: ExportConfig, weights: Path, evaluation: Path, store: Path, package: Path) -> ExportResult:
    """Package a model.

    Args:
        config: section `export`.
        weights: file written by `save_model`.
        evaluation: `evaluation.json` of these weights; the card contains its scores.
        store: folder of the store; only the manifest and the validation tiles are read.
        package: output folder; an existing package is replaced only after the new one is complete and its check passed.

    Raises:
        TrustError: the signing key cannot be used.
        WeightsError: the weights cannot be read, or are NaN or infinite.
        DataError: the evaluation cannot be read or belongs to another model.
        StoreError: the store cannot be read, has no validation tile, or was not made for this model.
        ParityError: a required format cannot be written, or differs from the network.
    """
    key = private_key(config.signing_key)
    network, facts = load_model(weights)
    scores = read_evaluation(evaluation, weights)
    tiles = _validation_tiles(store, facts, weights)
    with replacing_folder(package) as draft:
        lean = _without_auxiliary_heads(network, facts)
        save_model(draft / MODEL_FILE, *lean)
        write_crops(draft / CROPS, *lean, tiles)
        (draft / REFERENCE).write_text(json.dumps(reference(*lean, tiles), allow_nan=False) + "\n")
        answers = make_reference(*lean, draft / CROPS)
        formats = write_formats(draft, lean[0], config, answers)
        shutil.copyfile(evaluation, draft / EVALUATION)
        in_training = (answers.precision, answers.same_class_share)
        write_descriptions(
            draft, *lean, scores, without_timings(formats), config.outputs, read_manifest(store), in_training
        )
        record = _record(draft, digest(weights), config, answers, formats)
        write_json(draft / RECORD, record)
        write_json(draft / SBOM, package_bom(lean[1], scores, record["sha256"], installed_packages()))
        made_from = Materials(weights, evaluation, store)
        write_json(draft / STATEMENT, statement(draft, lean[1], scores, config, made_from))
        if key is not None:
            sign(draft, key)  # the last file, because it covers all others
    return ExportResult(package, record["sha256"][MODEL_FILE], package_digest(record["sha256"]), formats)


def _validation_tiles(store: Path, facts: ModelFacts, weights: Path) -> list[Tile]:
    """The validation tiles with all sensors of the model, mapped into memory, if the store holds its inputs."""
    data = Store(store)
    require_inputs_of(facts, data, weights)
    needed = set(facts.network.modalities)
    known = data.manifest.subset(SUBSET)
    entries = [entry for entry in known if needed <= set(entry.sensors)]
    if not entries:
        lack = " with all sensors of the model" if known else ""
        raise StoreError(
            f"{store}: the store has no validation tile of the split {data.manifest.split}{lack}; add one to the "
            "split, then run acquire and preprocess again"
        )
    return [data[entry] for entry in entries]


def read_evaluation(evaluation: Path, weights: Path) -> dict[str, Any]:
    """Read an `evaluation.json` and check that it was made with these weights.

    Raises:
        DataError: the file is missing, damaged, or belongs to another model.
    """
    try:
        content: dict[str, Any] = json.loads(evaluation.read_text())
        evaluated = content["protocol"]["model"]["sha256"]
    except FileNotFoundError:
        raise DataError(f"{evaluation}: file not found; run the evaluate step first") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{evaluation}: damaged; run the evaluate step again") from None
    if evaluated != digest(weights):
        raise DataError(f"{evaluation}: made with another model than {weights}; run the evaluate step again")
    return content


def _without_auxiliary_heads(network: MoBaNet, facts: ModelFacts) -> tuple[MoBaNet, ModelFacts]:
    config = replace(network.config, aux_heads=False)
    lean = MoBaNet(config)
    lean.load_state_dict({name: value for name, value in network.state_dict().items() if not name.startswith("aux.")})
    return lean.eval(), replace(facts, network=config)


def _record(
    draft: Path, source_sha256: str, config: ExportConfig, answers: Reference, formats: Mapping[str, Entry]
) -> Mapping[str, Any]:
    files = (file for file in sorted(draft.iterdir()) if not file.name.startswith(".") and file.name not in SIDE_FILES)
    limits = ("tolerance", "max_changed", "max_changed_reduced")
    return {
        "format": FORMAT,
        "sha256": {file.name: digest(file) for file in files},
        "source_sha256": source_sha256,  # of the weights from training, which were evaluated
        "formats": formats,
        "parity": {name: getattr(config, name) for name in limits}
        | {"precision": answers.precision, "same_class_share": answers.same_class_share},
        "facts": asdict(answers.facts),
    }
