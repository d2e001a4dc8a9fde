"""Command line of the evaluate step, which DVC calls: `python -m components.evaluate`."""

from __future__ import annotations

from pathlib import Path

from components.common.entrypoints.dvc import entry_point
from components.common.params import section
from components.evaluate.config import EvaluateConfig
from components.evaluate.step import run


def main(params: Path, store: Path, weights: Path, reports: Path) -> None:
    """Read the section `evaluate` of the params file and run the step."""
    run(section(params, "evaluate", EvaluateConfig), store, weights, reports)


if __name__ == "__main__":
    entry_point(
        "evaluate",
        "Score a checkpoint on the test tiles with both sensors, image only and DSM only, and write the report.",
        {"store": "data/store", "weights": "models/best.safetensors", "reports": "reports"},
        main,
    )
