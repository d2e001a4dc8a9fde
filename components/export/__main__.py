"""`python -m components.export`: the command that DVC runs."""

from __future__ import annotations

from pathlib import Path

from components.common.entrypoints.dvc import entry_point
from components.common.params import section
from components.export.config import ExportConfig
from components.export.step import run


def main(params: Path, weights: Path, evaluation: Path, store: Path, package: Path) -> None:
    """Read the parameters and run the step."""
    run(section(params, "export", ExportConfig), weights, evaluation, store, package)


if __name__ == "__main__":
    entry_point(
        "export",
        "Package a model in every selected format, compare each with the network, and add card, scores and origin.",
        {
            "weights": "models/best.safetensors",
            "evaluation": "reports/evaluation.json",
            "store": "data/store",
            "package": "package",
        },
        main,
    )
