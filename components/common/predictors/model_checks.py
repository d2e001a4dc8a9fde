"""Check a model file or a package, and say what was checked, without running anything in it.

In: a package folder, or a `.safetensors`, `.onnx` or `.pt2` file. Out: one sentence per check. `open_model` makes the
same checks of the file that it opens.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from components.common.errors import WeightsError
from components.common.exported.graph_file import check_graph
from components.common.exported.graph_layout import Report
from components.common.exported.program_file import check_program
from components.common.inference.modelfile import ModelFacts, load_model
from components.common.predictors.models import SUFFIXES, recorded
from components.common.tracking.packages import (
    EVALUATION,
    MODEL_FILE,
    RECORD,
    SIDE_FILES,
    SIGNATURE,
    STATEMENT,
    package_digest,
    read_record,
    verify_files,
    verify_statement,
)


def verify_model(model: Path, report: Report) -> None:
    """Check a model.

    Args:
        model: package folder or file.
        report: called with every check that was passed, at once.

    Raises:
        WeightsError: a file is missing, damaged, of another format, could do something else than compute, or
            contradicts the other files of the package.
        DataError: a package lacks a file, or a file has changed.
    """
    if model.is_dir():
        _verify_package(model, report)
        return
    if not model.is_file():
        raise WeightsError(f"{model}: no such model; use a package folder or one of {', '.join(SUFFIXES)}")
    if model.suffix.lower() not in SUFFIXES:
        raise WeightsError(f"{model}: no model of this project; use a package folder or one of {', '.join(SUFFIXES)}")
    recorded(model)
    _verify_file(model, report)


def _verify_file(path: Path, report: Report) -> ModelFacts:
    """Check one file; its facts."""

    def told(sentence: str) -> None:
        report(f"{path.name}: {sentence}")

    if path.suffix.lower() == ".onnx":
        return check_graph(path, told).facts
    if path.suffix.lower() == ".pt2":
        return check_program(path, told)[0].facts
    network, facts = load_model(path)
    told(f"header: a network for {len(facts.classes)} classes of {facts.dataset}, trained for {facts.step} steps")
    told(f"tensors: {len(network.state_dict())}, with the names, shapes and types of the network, and finite")
    return facts


def _verify_package(package: Path, report: Report) -> None:
    record = read_record(package)
    sha256 = record["sha256"]
    verify_files(package)
    report(f"{RECORD}: format {record['format']}, {len(sha256)} files with the recorded checksums, none besides them")
    report(f"{RECORD}: the package is {package_digest(sha256)}")
    files = sorted(name for name in sha256 if Path(name).suffix in SUFFIXES and _is_model(name))
    if MODEL_FILE not in files:
        raise WeightsError(f"{package / RECORD}: lists no {MODEL_FILE}; run the export step again")
    facts = _verify_file(package / MODEL_FILE, report)
    for name in files:
        if name != MODEL_FILE:
            _require_equal(package / name, _verify_file(package / name, report), facts)
    _require_evaluated(package, facts)
    report(f"facts: the same in {', '.join(files)} and {EVALUATION}")
    if verify_statement(package):
        report(f"{STATEMENT}: about these files")
    present = sorted(name for name in SIDE_FILES if (package / name).is_file())
    report(f"side files: {', '.join(present) or 'none'}; {_signed(package)}")


def _is_model(name: str) -> bool:
    return name == MODEL_FILE or Path(name).suffix != ".safetensors"


def _require_equal(path: Path, facts: ModelFacts, expected: ModelFacts) -> None:
    ours, theirs = (json.loads(json.dumps(asdict(each))) for each in (facts, expected))
    different = [name for name in theirs if ours[name] != theirs[name]]
    if different:
        raise WeightsError(
            f"{path}: metadata of another model, because {', '.join(different)} differ from {MODEL_FILE}; "
            "run the export step again"
        )


def _require_evaluated(package: Path, facts: ModelFacts) -> None:
    """The scores must be those of a model with these classes and this data version."""
    path = package / EVALUATION
    try:
        protocol = json.loads(path.read_text())["protocol"]
        scored = {"classes": protocol["classes"], "bands": protocol["bands"]} | {
            name: protocol["model"][name] for name in ("data_md5", "git_commit", "step", "seed")
        }
    except (OSError, ValueError, KeyError, TypeError):
        raise WeightsError(f"{path}: missing or damaged; run the evaluate and export steps again") from None
    own = json.loads(json.dumps({name: getattr(facts, name) for name in scored}))
    different = [name for name in scored if scored[name] != own[name]]
    if different:
        raise WeightsError(
            f"{path}: scores of another model, because {', '.join(different)} differ from {MODEL_FILE}; run evaluate "
            "and export again"
        )


def _signed(package: Path) -> str:
    if (package / SIGNATURE).is_file():
        return "the signature is checked by `mobanet package verify`, which needs the public key"
    return "the package is not signed"
