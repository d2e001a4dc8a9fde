"""`python -m components.preprocess`: the door for DVC."""

from __future__ import annotations

from pathlib import Path

from components.common.data.config import DataConfig
from components.common.entrypoints.dvc import open_door
from components.common.params import section
from components.preprocess.step import PreprocessConfig, run


def main(params: Path, raw: Path, store: Path) -> None:
    """Read the parameters and call the step."""
    split = section(params, "data", DataConfig).split
    run(section(params, "preprocess", PreprocessConfig), split, raw, store)


if __name__ == "__main__":
    open_door(
        "preprocess",
        "Decode labels, scale heights and store every tile of the split as a file to map into memory.",
        {"raw": "data/raw", "store": "data/store"},
        main,
    )
