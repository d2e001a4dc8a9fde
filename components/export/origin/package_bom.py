"""The bill of materials of a package as CycloneDX 1.6: the model with its figures, its data, and its software.

In: facts and evaluation of the model, checksums of the package's files, packages of the environment. Out: JSON. It is a
side file of the package, because machines with other software can make the same package.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.common.inference.modelfile import InitialWeights, ModelFacts
from components.common.tracking.packages import MODEL_FILE, package_digest
from components.common.tracking.provenance import DISTRIBUTION
from components.export.origin.bom import Json, document, licences, properties, reference, software
from components.export.origin.software import Package

MODEL, DATA = "model", "data"
"""References to the two components that are no software."""


def package_bom(
    facts: ModelFacts, evaluation: Mapping[str, Any], files: Mapping[str, str], packages: Sequence[Package]
) -> Json:
    """The bill of materials of a model package.

    Args:
        facts: facts of the packaged model.
        evaluation: content of its `evaluation.json`.
        files: name -> sha256, as the package's record lists them.
        packages: the environment in which the package was made.
    """
    content = software(tuple(packages))
    project = [package for package in packages if package.name == DISTRIBUTION] or packages
    edges = [{"ref": MODEL, "dependsOn": [DATA, *sorted(map(reference, project))]}, {"ref": DATA}]
    components = [_data(facts), *content["components"]]
    parts = {"components": components, "dependencies": [*edges, *content["dependencies"]]}
    return document(_model(facts, evaluation, files), content | parts)


def _model(facts: ModelFacts, evaluation: Mapping[str, Any], files: Mapping[str, str]) -> Json:
    start = facts.initial_weights
    component: Json = {
        "type": "machine-learning-model",
        "bom-ref": MODEL,
        "name": f"mobanet-{facts.dataset}",
        "version": package_digest(files),
        "description": f"Land cover from an image and a DSM, ground size {facts.gsd_m:g} m; the version is the sha256 "
        "that identifies the package.",
        "hashes": [{"alg": "SHA-256", "content": files[MODEL_FILE]}],
        **licences(None if start.source == "none" else start.licence),
        "pedigree": {"ancestors": [_ancestor(start)]} if start.source != "none" else {},
        "components": [_file(name, sha256) for name, sha256 in sorted(files.items())],
        "modelCard": _card(facts, evaluation),
        "properties": properties(
            git_commit=facts.git_commit, tool_version=facts.tool_version, step=facts.step, seed=facts.seed
        ),
    }
    return {key: value for key, value in component.items() if value}


def _ancestor(start: InitialWeights) -> Json:
    """The weights that the training started from."""
    about = properties(sha256_of_tensors=start.sha256) if start.sha256 else []
    component = {"type": "machine-learning-model", "name": start.source, "properties": about}
    return {key: value for key, value in (component | licences(start.licence)).items() if value}


def _file(name: str, sha256: str) -> Json:
    hashes = [{"alg": "SHA-256", "content": sha256}]
    return {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": hashes}


def _card(facts: ModelFacts, evaluation: Mapping[str, Any]) -> Json:
    sensors = {"rgb": f"image: {', '.join(facts.bands)}", "dsm": "dsm: heights"}
    considerations = {"technicalLimitations": list(evaluation["warnings"])} if evaluation["warnings"] else {}
    card = {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "semantic segmentation",
            "architectureFamily": "vision transformer",
            "modelArchitecture": f"MoBaNet with {facts.network.backbone}",
            "datasets": [{"ref": DATA}],
            "inputs": [{"format": sensors[name]} for name in facts.network.modalities],
            "outputs": [{"format": f"classes: {', '.join(facts.classes)}"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": list(_figures(evaluation))},
        "considerations": considerations,
    }
    return {key: value for key, value in card.items() if value}


def _figures(evaluation: Mapping[str, Any]) -> Iterator[Json]:
    """Every score of the evaluation that is defined, digit by digit, with its interval if there is one."""
    protocol, intervals = evaluation["protocol"], evaluation.get("intervals") or {}
    counted = protocol["ground_truth"]
    known = intervals.get("figures", {})
    for truth, conditions in evaluation["scores"].items():
        for condition, scores in conditions.items():
            there = f"{protocol['dataset']} {protocol['split']} {protocol['subset']}, {truth} ground truth, {condition}"
            for key in ("miou", "mf1", "oa"):
                yield from _figure(
                    key, scores[key], there, known.get(f"{key}/{condition}") if truth == counted else None
                )
            for name, figures in scores["per_class"].items():
                interval = known.get(f"iou/{condition}/{name}") if truth == counted else None
                yield from _figure("iou", figures["iou"], f"{there}, class {name}", interval)
    if balance := evaluation["balance"]:
        there = f"{protocol['dataset']} {protocol['split']} {protocol['subset']}, {counted} ground truth"
        yield from _figure("expected_miou", balance["expected_miou"], there, known.get("expected_miou"))


def _figure(kind: str, value: float | None, there: str, interval: Sequence[float] | None) -> Iterator[Json]:
    if value is None:
        return
    metric: Json = {"type": kind, "value": json.dumps(value), "slice": there}
    if interval:
        low, high = map(json.dumps, interval)
        metric["confidenceInterval"] = {"lowerBound": low, "upperBound": high}
    yield metric


def _data(facts: ModelFacts) -> Json:
    about = properties(source=facts.source, split=facts.split, bands=", ".join(facts.bands), gsd_m=facts.gsd_m)
    return {
        "type": "data",
        "bom-ref": DATA,
        "name": facts.dataset,
        "version": facts.data_md5,
        "description": "The data version of the training; it is the md5 of what the store records about the data.",
        **licences("terms of use" if facts.acknowledgement else None, facts.acknowledgement),
        "data": [{"type": "dataset", "name": f"{facts.dataset}-{facts.split}", "contents": {"properties": about}}],
    }
