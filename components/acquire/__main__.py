"""`python -m components.acquire`: the door for DVC."""

from __future__ import annotations

from pathlib import Path

from components.acquire.step import SampleConfig, run
from components.common.data.config import DataConfig
from components.common.entrypoints.dvc import open_door
from components.common.params import section


def main(params: Path, raw: Path) -> None:
    """Read the parameters and call the step."""
    run(section(params, "data", DataConfig), section(params, "sample", SampleConfig), raw)


if __name__ == "__main__":
    open_door(
        "acquire", "Generate the sample city, or bring ISPRS or own files, to data/raw.", {"raw": "data/raw"}, main
    )
