"""Write the model card: what a user needs to know about a model. In: facts, evaluation, parity. Out: Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.common.data.store import Heights
from components.common.inference.given_sensors import runs_by_condition
from components.common.inference.modelfile import InitialWeights, ModelFacts, temperature_of
from components.common.templates import templates
from components.export.parity import Parity

CONDITIONS = {"rgb+dsm": "image and DSM", "rgb": "image only, DSM missing", "dsm": "DSM only, image missing"}
GROUND_TRUTHS = {"eroded": "object boundaries ignored", "full": "every labelled pixel"}

BALANCE = {
    "expected_miou": "expected mIoU E({p}): each sensor fails with probability {p}",
    "average": "mean of the three mIoU",
    "last_1": "the worse single sensor",
    "retention_rgb": "retention without the DSM (ratio)",
    "retention_dsm": "retention without the image (ratio)",
    "shapley_rgb": "Shapley contribution of the image",
    "shapley_dsm": "Shapley contribution of the DSM",
    "imbalance": "imbalance (0: equal contributions, 1: only one sensor contributes)",
    "fusion_gain": "fusion gain over the better single sensor",
    "majority": "mIoU of always predicting the most frequent class",
}
"""Balance figures of the evaluation and their titles, in the order of the card."""

RATIOS = ("retention_rgb", "retention_dsm", "imbalance")


def render(facts: ModelFacts, evaluation: Mapping[str, Any], parity: Parity) -> str:
    """Render the card as Markdown.

    Args:
        facts: facts of the packaged model.
        evaluation: content of the model's `evaluation.json`.
        parity: result of the comparison of ONNX and PyTorch.
    """
    environment = templates(Path(__file__).parent, html=False)
    environment.filters["points"] = lambda value: "-" if value is None else f"{value:.1f}"
    return environment.get_template("card.md.j2").render(
        facts=facts,
        heights=describe_heights(facts.heights),
        started_from=describe_start(facts.initial_weights),
        by_condition=runs_by_condition(facts.network),
        absent_sensor=describe_absence(facts),
        temperatures=describe_temperatures(facts),
        missing_image=[round(255 * mean, 3) for mean in facts.image_mean],
        protocol=evaluation["protocol"],
        scores=evaluation["scores"],
        balance=balance_rows(evaluation["balance"]),
        warnings=evaluation["warnings"],
        parity=parity,
        conditions=CONDITIONS,
        ground_truths=GROUND_TRUTHS,
    )


def describe_absence(facts: ModelFacts) -> str:
    """Say in one or two sentences what the network does with a sensor that a sample lacks."""
    zero = "A missing value counts as 0 after normalisation (`missing: zero`)."
    excluded = "A patch that a sensor lacks is left out of prompts and gates (`missing: excluded`)."
    own = " The decoder has its own statistics for samples without image or without DSM (`batch_norm: per-condition`)."
    network = facts.network
    return (excluded if network.missing == "excluded" else zero) + own * (network.batch_norm == "per-condition")


def describe_temperatures(facts: ModelFacts) -> str:
    """The temperature of every condition, as words; empty if the model is not calibrated."""
    known = {condition: temperature_of(facts, condition) for condition in facts.conditions}
    return ", ".join(f"{value:.3g} ({CONDITIONS[condition]})" for condition, value in known.items() if value)


def describe_start(start: InitialWeights) -> str:
    """The source of the initial weights with its checksum, and the parts that an earlier model did not fill."""
    checksum = f", sha256 `{start.sha256}`" if start.sha256 else ""
    incomplete = [f"{part}: {amount}" for part, amount in start.parts.items() if amount != "complete"]
    return f"`{start.source}`{checksum}" + (f" ({'; '.join(incomplete)})" if incomplete else "")


def balance_rows(balance: Mapping[str, float | None] | None) -> list[tuple[str, str]]:
    """Title and formatted value of every balance figure; an empty list for a network of one sensor."""
    if balance is None:
        return []
    return [(title.format(p=balance["failure_probability"]), _figure(key, balance)) for key, title in BALANCE.items()]


def _figure(key: str, balance: Mapping[str, float | None]) -> str:
    value = balance[key]
    return "-" if value is None else f"{value:.2f}" if key in RATIOS else f"{value:.1f}"


def describe_heights(heights: Heights) -> str:
    """Describe in one sentence how heights in metres are scaled to values of the input `dsm`."""
    low, high = heights.clip
    limits = f"then clipped to {low:g}..{high:g}"
    if heights.method == "above-ground":
        radius_m = heights.ground_radius_m
        local = "the ground of a normalised DSM"
        if radius_m is not None:
            local = f"the local ground (lowest surface within about {radius_m:g} m)"
        return f"height above {local} in metres, divided by {heights.scale_m:g}, {limits}"
    if heights.percentiles is not None:
        lowest, highest = heights.percentiles
        return f"the percentiles {lowest:g} and {highest:g} of the heights of each tile are mapped to 0 and 1, {limits}"
    return f"absolute height in metres, minus {heights.offset_m:g}, divided by {heights.scale_m:g}, {limits}"
