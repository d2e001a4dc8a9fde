"""Package the selected model: safetensors, ONNX and a model card. The package is written atomically.

In: `models/best.safetensors`, and `reports/evaluation.json` of the same model. Out, in the package folder:
`model.safetensors` (written by `save_model`, without the auxiliary heads, which only training needs), `model.onnx`,
`model_card.md`, and `export.json`, which records the content and the comparison of ONNX with PyTorch.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from components.common.errors import DataError
from components.common.files import digest, replacing_folder, write_json
from components.common.inference.modelfile import ModelFacts, load_model, save_model
from components.common.params import STRICT
from components.export import card, onnx_graph, parity
from components.export.parity import Parity
from model import MoBaNet

log = logging.getLogger(__name__)

FORMAT = 1
"""Version of `export.json`. It increases when earlier readers could misread the file."""

WEIGHTS, ONNX, CARD, RECORD = "model.safetensors", "model.onnx", "model_card.md", "export.json"


@checked_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class ExportConfig:
    """Section `export` of params.yaml."""

    opset: Annotated[int, Field(ge=18, le=23)]  # ONNX operator set; older runtimes may need a lower one
    tolerance: Annotated[float, Field(gt=0, le=1e6)]  # largest absolute difference of logits, network - graph


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The package that was written."""

    package: Path
    sha256: str  # sha256 of model.safetensors, the identity of the model
    parity: Parity


def run(config: ExportConfig, weights: Path, evaluation: Path, package: Path) -> ExportResult:
    """Package a model.

    Args:
        config: section `export`.
        weights: file written by `save_model`.
        evaluation: `evaluation.json` of these weights; the card contains its scores.
        package: output folder; an existing package is replaced only after the new one is complete and its check passed.

    Raises:
        WeightsError: the weights cannot be read, or are NaN or infinite.
        DataError: the evaluation cannot be read or belongs to another model.
        ParityError: the logits of ONNX and network differ by more than the tolerance.
    """
    network, facts = load_model(weights)
    scores = read_evaluation(evaluation, weights)
    with replacing_folder(package) as draft:
        lean = _without_auxiliary_heads(network, facts)
        save_model(draft / WEIGHTS, *lean)
        start = time.monotonic()
        log.info("writing %s: operator set %d, inputs of %d px", ONNX, config.opset, facts.window_px)
        onnx_graph.write_onnx(draft / ONNX, *lean, config.opset)
        log.info("%s: %.1f MB, %.0f s", ONNX, (draft / ONNX).stat().st_size / 1e6, time.monotonic() - start)
        agreement = parity.check(network, facts, draft / ONNX, config.tolerance)
        log.info("largest difference of logits %.1e (limit %.1e)", agreement.largest_difference, config.tolerance)
        (draft / CARD).write_text(card.render(lean[1], scores, agreement))
        record = _record(draft, lean[1], digest(weights), config, agreement)
        write_json(draft / RECORD, record)
    return ExportResult(package, record["sha256"][WEIGHTS], agreement)


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
    draft: Path, facts: ModelFacts, source_sha256: str, config: ExportConfig, agreement: Parity
) -> Mapping[str, Any]:
    files = (file for file in sorted(draft.iterdir()) if not file.name.startswith("."))
    return {
        "format": FORMAT,
        "sha256": {file.name: digest(file) for file in files},
        "source_sha256": source_sha256,  # of the weights from training, which were evaluated
        "onnx": {"opset": config.opset, "inputs": onnx_graph.input_shapes(facts), "classes": len(facts.classes)},
        "parity": asdict(agreement),
        "facts": asdict(facts),
    }
