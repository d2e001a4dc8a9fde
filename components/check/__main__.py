"""`python -m components.check`: the entry point for DVC."""

from __future__ import annotations

from pathlib import Path

from components.check.config import CheckConfig
from components.check.step import run
from components.common.data.config import DataConfig
from components.common.entrypoints.dvc import entry_point
from components.common.params import read_yaml, section
from components.common.readers.tiles import reader_settings


def main(params: Path, raw: Path, report: Path) -> None:
    """Read the parameters and call the step."""
    data, config = section(params, "data", DataConfig), section(params, "check", CheckConfig)
    run(data, config, reader_settings(read_yaml(params)), raw, report)


if __name__ == "__main__":
    entry_point(
        "check",
        "Read every raw tile of the split, write a report of everything that is wrong, and stop at errors.",
        {"raw": "data/raw", "report": "reports/data_check.json"},
        main,
    )
