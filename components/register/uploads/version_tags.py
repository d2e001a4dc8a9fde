"""Tags and description of a version: what a user finds it by in MLflow. They all come from the version's package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.common.metric_names import metric_name
from components.common.tracking.packages import MODEL_FILE, package_digest
from components.common.tracking.registered_models import PACKAGE_SHA256, SHA256
from components.register.history.registry import PROMOTION_RECORD, RUN_ID
from components.register.promotion import PromotionRecord, headline_scores


def tags_of(
    record: Mapping[str, Any], evaluation: Mapping[str, Any], figures: PromotionRecord, run_id: str | None
) -> dict[str, str]:
    """Identity, figures, data version, code and training run.

    Args:
        record: content of `export.json`.
        evaluation: content of `evaluation.json`.
        figures: what promotion compares.
        run_id: MLflow run of the training; None: not tracked in this store.

    Raises:
        KeyError, TypeError: a file has other content.
    """
    facts, protocol, headline = record["facts"], evaluation["protocol"], headline_scores(evaluation)
    tags = {
        SHA256: record["sha256"][MODEL_FILE],
        PACKAGE_SHA256: package_digest(record["sha256"]),
        PROMOTION_RECORD: figures.to_json(),
        RUN_ID: run_id,
        "git_commit": facts["git_commit"],
        "data_md5": protocol["data_md5"],
        "raw_md5": protocol["raw_md5"],
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
    tags |= {f"balance.{name}": value for name, value in (evaluation["balance"] or {}).items()}
    tags |= {f"scores.{name}": value for name, value in headline.items() if name != "per_class"}
    tags |= {f"scores.iou.{name}": found["iou"] for name, found in headline["per_class"].items()}
    return {metric_name(name): str(value) for name, value in tags.items() if value is not None}


def sentence_of(record: Mapping[str, Any], figures: PromotionRecord) -> str:
    """Description of a version."""
    facts, protocol = record["facts"], figures.protocol
    balanced = "" if figures.expected_miou is None else f", expected mIoU {figures.expected_miou:.1f}"
    worst = figures.worst_class
    last = "" if worst is None else f", worst class {worst[0]} {worst[1]:.1f}"
    return (
        f"{facts['network']['backbone']} on {protocol['dataset']}, split {protocol['split']}: "
        f"mIoU {figures.miou:.1f}{balanced}{last}."
    )
