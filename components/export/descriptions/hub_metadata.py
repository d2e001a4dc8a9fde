"""The front matter of a model card: what the Hugging Face hub reads of a model, with its results.

In: facts, `evaluation.json`, formats of the package. Out: YAML. Figures are rounded as in the body of the card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from components.common.inference.modelfile import ModelFacts
from components.export.descriptions.card_figures import CONDITIONS, FIGURES, GROUND_TRUTHS, rounded

METRICS = {"oa": "accuracy", "miou": "mean_iou", "mf1": "f1", "miou_all": "mean_iou"}
"""Score -> the hub's name of such a metric."""

ARTICLE = "2603.17705"
"""The network, on arXiv."""

HUB_LICENCES = frozenset(
    ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
    + ("gemma", "apple-amlr", "apple-ascl")
)
"""Licences that the hub knows by name, among those of timm's weights."""

CODE_LICENCE = "apache-2.0"
RANDOM_WEIGHTS = "none needed"
"""Beginning of the licence of a training that started from random weights."""

PROTOCOL = (
    *("subset", "tiles", "ground_truth", "mean_classes", "missing_modality", "window_px", "stride_px", "overlap"),
    *("precision", "gsd_m", "bands", "data_md5", "raw_md5"),
)
"""Keys of the evaluation's protocol that the results name."""


def front_matter(facts: ModelFacts, evaluation: Mapping[str, Any], formats: Mapping[str, Mapping[str, Any]]) -> str:
    """The front matter as YAML, without its fences.

    Args:
        facts: facts of the packaged model.
        evaluation: content of the model's `evaluation.json`.
        formats: formats of the package, as in its record.
    """
    data = ModelCardData(
        **licence_fields(facts),
        library_name="mobanet",
        pipeline_tag="image-segmentation",
        tags=_tags(facts, formats),
        datasets=[identifier(facts.dataset)],
        base_model=f"timm/{facts.network.backbone}" if facts.initial_weights.source == "hub" else None,
        metrics=sorted(set(METRICS.values())),
        model_name=f"MoBaNet, {facts.dataset}, split {facts.split}",
        eval_results=results(evaluation),
    )
    return str(data.to_yaml())


def results(evaluation: Mapping[str, Any]) -> list[EvalResult]:
    """Every defined score of the evaluation with its protocol and, where it is known, its interval."""
    protocol, intervals = evaluation["protocol"], evaluation["intervals"] or {}
    found = []
    for truth, by_condition in evaluation["scores"].items():
        for condition, scores in by_condition.items():
            known = intervals.get("figures", {}) if truth == protocol["ground_truth"] else {}
            for key, title in FIGURES.items():
                name = f"{title}, {CONDITIONS[condition]}, {GROUND_TRUTHS[truth]}"
                args = {"sensors": condition, "ground_truth": truth} | _ends(known.get(f"{key}/{condition}"), intervals)
                found.append(_result(protocol, METRICS[key], name, scores[key], args))
    if balance := evaluation["balance"]:
        args = {"failure_probability": balance["failure_probability"], "ground_truth": protocol["ground_truth"]}
        args |= _ends(intervals.get("figures", {}).get("expected_miou"), intervals)
        found.append(_result(protocol, "mean_iou", "expected mIoU E(p)", balance["expected_miou"], args))
    return [result for result in found if result.metric_value is not None]


def _result(
    protocol: Mapping[str, Any], metric: str, name: str, value: float | None, args: dict[str, Any]
) -> EvalResult:
    """One figure; the hub groups figures of the same data, so the protocol is the same for all of them."""
    return EvalResult(
        task_type="image-segmentation",
        task_name="Semantic segmentation",
        dataset_type=identifier(protocol["dataset"]),
        dataset_name="generated scenes" if protocol["source"] == "sample" else protocol["dataset"],
        dataset_config=protocol["split"],
        dataset_split=protocol["subset"],
        dataset_revision=protocol["data_md5"],
        dataset_args={key: protocol[key] for key in PROTOCOL},
        metric_type=metric,
        metric_name=name,
        metric_value=rounded(value),
        metric_args=args,
    )


def _ends(interval: list[float] | None, intervals: Mapping[str, Any]) -> dict[str, Any]:
    if interval is None:
        return {}
    return {"low": rounded(interval[0]), "high": rounded(interval[1]), "level": intervals["level"]}


def licence_fields(facts: ModelFacts) -> dict[str, Any]:
    """The fields `license` and, for one that the hub does not know, `license_name` and `license_link`.

    Weights are subject to the terms of the data and of the initial weights. So only a model of generated data has the
    licence of its initial weights; for any other the card states what applies.
    """
    licence = facts.initial_weights.licence
    known = CODE_LICENCE if licence.startswith(RANDOM_WEIGHTS) else licence
    if facts.source == "sample" and known in HUB_LICENCES:
        return {"license": known}
    terms = known if facts.source == "sample" else f"terms of {facts.dataset} and {licence}"
    return {
        "license": "other",
        "license_name": identifier(terms).lower(),
        "license_link": "README.md#licence-and-acknowledgement",
    }


def identifier(name: str) -> str:
    """A name with the characters that the hub accepts: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^0-9A-Za-z._]+", "-", name).strip("-.") or "unnamed"


def _tags(facts: ModelFacts, formats: Mapping[str, Mapping[str, Any]]) -> list[str]:
    runtimes = [found["runtime"] for found in formats.values() if found["status"] == "exported"]
    special = ["qgis"] if formats.get("qgis", {}).get("status") == "exported" else []
    return [
        *(
            "semantic-segmentation",
            "aerial-imagery",
            "remote-sensing",
            "digital-surface-model",
            "mobanet",
            "safetensors",
        ),
        *sorted({identifier(runtime).lower() for runtime in runtimes}),
        *special,
        f"arxiv:{ARTICLE}",
    ]
