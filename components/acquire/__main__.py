"""Command line entry point of acquire: `python -m components.acquire`, which dvc.yaml calls."""

from __future__ import annotations

from pathlib import Path

from components.acquire.step import SampleConfig, run
from components.common.data.config import DataConfig
from components.common.entrypoints.dvc import entry_point
from components.common.params import section


def main(params: Path, raw: Path) -> None:
    """Read the parameters and call the step."""
    run(section(params, "data", DataConfig), section(params, "sample", SampleConfig), raw)


if __name__ == "__main__":
    about = "Generate the sample city, or import ISPRS files or your own, into data/raw."
    entry_point("acquire", about, {"raw": "data/raw"}, main)
