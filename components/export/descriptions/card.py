"""Write the model card: what a user needs to know about a model, as the Hugging Face hub shows it.

In: facts, evaluation, formats of the package. Out: `README.md`, Markdown with front matter. No figure is typed by hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.common.data.store import Heights
from components.common.exported.graph_inputs import dsm_values
from components.common.inference.modelfile import InitialWeights, ModelFacts, temperature_of
from components.common.templates import templates
from components.export.descriptions import card_figures
from components.export.descriptions.card_figures import CONDITIONS, Table, percent, shown
from components.export.descriptions.hub_metadata import front_matter

FILE = "README.md"
"""Name of the card in a package."""

OUTPUTS = {
    "logits": ("N x {k} x H x W", "float32", "the class with the largest value is the prediction"),
    "classes": ("N x H x W", "uint8", "the class of every pixel"),
    "confidence": ("N x H x W", "float32", "the probability of that class, 0..1"),
}
"""Output of a file -> its shape, its type and what it holds."""

GRAPH_HEIGHTS = {
    "metres": "heights in metres, as the DSM files hold them",
    "metres above ground": "heights above ground in metres (a normalised DSM)",
    "scaled": "heights that are scaled already",
}
"""What the input `dsm` of a file holds, by the metadata key `dsm_values`."""


def render(
    facts: ModelFacts,
    evaluation: Mapping[str, Any],
    formats: Mapping[str, Mapping[str, Any]],
    outputs: Sequence[str] = ("logits",),
    in_training: tuple[str, float] | None = None,
    multiple_px: int | None = None,
) -> str:
    """Render the card as Markdown.

    Args:
        facts: facts of the packaged model.
        evaluation: content of the model's `evaluation.json`.
        formats: formats of the package, as in its record: name -> file, precision, comparison with the network, status.
        outputs: names of the outputs of the files, as `export.outputs` selects them.
        in_training: precision of training and scores, and the share of pixels with the same class in it as in float32,
            0..1; None: not compared.
        multiple_px: height and width may be any multiple of this, from two on; None: only the side of a window.
    """
    environment = templates(Path(__file__).parent, html=False)
    environment.filters |= {"cell": cell, "code": "`{}`".format, "table": markdown_table}
    exported = {name: found for name, found in formats.items() if found["status"] == "exported"}
    return environment.get_template("card.md.j2").render(
        front_matter=front_matter(facts, evaluation, formats),
        facts=facts,
        heights=describe_heights(facts.heights),
        dsm_values=dsm_values(facts.heights),
        graph_heights=GRAPH_HEIGHTS[dsm_values(facts.heights)],
        outputs=output_table(facts, outputs),
        exported=exported,
        agreement=format_table(exported),
        in_training=in_training,
        multiple_px=multiple_px,
        left_out={name: found["reason"] for name, found in formats.items() if found["status"] != "exported"},
        started_from=describe_start(facts.initial_weights),
        absent_sensor=describe_absence(facts),
        temperatures=describe_temperatures(facts),
        protocol=evaluation["protocol"],
        intervals=evaluation["intervals"],
        figures=card_figures,
        evaluation=evaluation,
        boundary_px=next((found["width_px"] for found in evaluation["boundary"].values()), None),
        warnings=evaluation["warnings"],
        conditions=CONDITIONS,
    )


def cell(text: object) -> str:
    """Text that stays inside a cell of a Markdown table."""
    return re.sub(r"\s+", " ", str(text)).replace("\\", "\\\\").replace("|", "\\|")


def markdown_table(table: Table) -> str:
    """A table as Markdown; numbers are aligned to the right."""
    lines = [table.columns, ["---"] * table.words + ["---:"] * (len(table.columns) - table.words), *table.rows]
    return "\n".join("| " + " | ".join(cell(text) for text in line) + " |" for line in lines)


def format_table(formats: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """The files of a package with their comparison with the network; None: there are none besides the weights."""
    rows = tuple(
        (
            f"`{found['file']}`",
            found["precision"],
            found["runtime"],
            shown(found["bytes"] / 1e6),
            found.get("compared", "logits"),
            _difference(found["largest_difference"]),
            f"{percent(found['changed_share']):.4f}",
        )
        for found in formats.values()
    )
    columns = ("file", "precision", "runtime", "MB", "compared", "largest difference", "pixels that change class, %")
    return Table(columns, rows, 3) if rows else None


def output_table(facts: ModelFacts, outputs: Sequence[str]) -> list[tuple[str, str, str]]:
    """Name, shape and values of every output of a file."""
    found = [(name, *OUTPUTS[name]) for name in outputs]
    return [(name, shape.format(k=len(facts.classes)), f"{kind}, {values}") for name, shape, kind, values in found]


def _difference(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def describe_absence(facts: ModelFacts) -> str:
    """Say in one or two sentences what the network does with a sensor that a sample lacks."""
    zero = "A missing value counts as 0 after normalisation (`missing: zero`)."
    excluded = "A patch that a sensor lacks is left out of prompts and gates (`missing: excluded`)."
    own = " The decoder has its own statistics for samples without image or without DSM (`batch_norm: per-condition`)."
    network = facts.network
    return (excluded if network.missing == "excluded" else zero) + own * (network.batch_norm == "per-condition")


def describe_temperatures(facts: ModelFacts) -> str:
    """The temperature of every condition as stored, for users divide by it; empty if the model is not calibrated."""
    known = {condition: temperature_of(facts, condition) for condition in facts.conditions}
    return ", ".join(f"{value} ({CONDITIONS[condition]})" for condition, value in known.items() if value)


def describe_start(start: InitialWeights) -> str:
    """The source of the initial weights with its checksum, and the parts that an earlier model did not fill."""
    checksum = f", sha256 `{start.sha256}`" if start.sha256 else ""
    incomplete = [f"{part}: {amount}" for part, amount in start.parts.items() if amount != "complete"]
    return f"`{start.source}`{checksum}" + (f" ({'; '.join(incomplete)})" if incomplete else "")


def describe_heights(heights: Heights) -> str:
    """Describe in one sentence how heights in metres are scaled to values of the network's DSM."""
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
