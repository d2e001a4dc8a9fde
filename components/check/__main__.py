"""`python -m components.check`: the door for DVC."""

from __future__ import annotations

from pathlib import Path

from components.check.config import CheckConfig
from components.check.step import run
from components.common.data.config import DataConfig
from components.common.entrypoints.dvc import open_door
from components.common.params import section


def main(params: Path, raw: Path, report: Path) -> None:
    """Read the parameters and call the step."""
    run(section(params, "data", DataConfig), section(params, "check", CheckConfig), raw, report)


if __name__ == "__main__":
    open_door(
        "check",
        "Open every raw tile of the split, look for every known trap, write a report and stop on errors.",
        {"raw": "data/raw", "report": "reports/data_check.json"},
        main,
    )
