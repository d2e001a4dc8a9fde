"""Package the selected model: weights, ONNX graph, model card, its evaluation and what later checks compare with.

In: `models/best.safetensors`, `reports/evaluation.json` of the same model, validation tiles of `data/store`. Out, in
the package folder, which is written atomically: `model.safetensors` (without the auxiliary heads, which only training
needs), `model.onnx`, `evaluation.json`, `crops.safetensors` (crops with the logits that the model
must give), `reference.json` (statistics that production is compared with), the descriptions `README.md`,
`predict_example.py` and `stac_item.json`, and `export.json`, which records the checksums of these files and the
comparison of ONNX with PyTorch. The digest of the checksums is the identity of the package, so every file depends on
model, data and parameters only.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
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
from components.common.tracking.packages import EVALUATION, FORMAT, MODEL_FILE, RECORD, SIDE_FILES, package_digest
from components.export import parity
from components.export.config import ExportConfig
from components.export.descriptions import write_descriptions
from components.export.formats import onnx_graph
from components.export.parity import Parity
from model import MoBaNet

log = logging.getLogger(__name__)

ONNX = "model.onnx"

SUBSET: Subset = "val"
"""Tiles of the crops and the statistics; they are not part of the scores."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The package that was written."""

    package: Path
    sha256: str  # of model.safetensors
    package_sha256: str  # identity of the package: digest of the checksums of all files
    parity: Parity


def run(config: ExportConfig, weights: Path, evaluation: Path, store: Path, package: Path) -> ExportResult:
    """Package a model.

    Args:
        config: section `export`.
        weights: file written by `save_model`.
        evaluation: `evaluation.json` of these weights; the card contains its scores.
        store: folder of the store; only the manifest and the validation tiles are read.
        package: output folder; an existing package is replaced only after the new one is complete and its check passed.

    Raises:
        WeightsError: the weights cannot be read, or are NaN or infinite.
        DataError: the evaluation cannot be read or belongs to another model.
        StoreError: the store cannot be read, has no validation tile, or was not made for this model.
        ParityError: the logits of ONNX and network differ by more than the tolerance.
    """
    network, facts = load_model(weights)
    scores = read_evaluation(evaluation, weights)
    tiles = _validation_tiles(store, facts, weights)
    with replacing_folder(package) as draft:
        lean = _without_auxiliary_heads(network, facts)
        save_model(draft / MODEL_FILE, *lean)
        write_crops(draft / CROPS, *lean, tiles)
        (draft / REFERENCE).write_text(json.dumps(reference(*lean, tiles), allow_nan=False) + "\n")
        start = time.monotonic()
        log.info("writing %s: operator set %d, inputs of %d px", ONNX, config.opset, facts.window_px)
        onnx_graph.write_onnx(draft / ONNX, *lean, config)
        graph = onnx_graph.describe(draft / ONNX, facts, config.opset)
        log.info("%s: %.1f MB, %.0f s", ONNX, graph["bytes"] / 1e6, time.monotonic() - start)
        agreement = parity.check(network, facts, draft / ONNX, config.tolerance)
        log.info("largest difference of logits %.1e (limit %.1e)", agreement.largest_difference, config.tolerance)
        changed = sum(case.changed_px for case in agreement.cases)
        pixels = sum(case.samples for case in agreement.cases) * facts.window_px**2
        formats = {
            "onnx": {
                "file": ONNX,
                "precision": "float32",
                "runtime": "onnxruntime",
                "bytes": graph["bytes"],
                "largest_difference": agreement.largest_difference,
                "changed_share": changed / pixels,
                "status": "exported",
            }
        }
        shutil.copyfile(evaluation, draft / EVALUATION)
        write_descriptions(draft, *lean, scores, formats, config.outputs, read_manifest(store))
        record = _record(draft, lean[1], digest(weights), graph, agreement)
        write_json(draft / RECORD, record)
    return ExportResult(package, record["sha256"][MODEL_FILE], package_digest(record["sha256"]), agreement)


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
    draft: Path, facts: ModelFacts, source_sha256: str, graph: Mapping[str, Any], agreement: Parity
) -> Mapping[str, Any]:
    files = (file for file in sorted(draft.iterdir()) if not file.name.startswith(".") and file.name not in SIDE_FILES)
    return {
        "format": FORMAT,
        "sha256": {file.name: digest(file) for file in files},
        "source_sha256": source_sha256,  # of the weights from training, which were evaluated
        "onnx": graph,
        "parity": asdict(agreement),
        "facts": asdict(facts),
    }
