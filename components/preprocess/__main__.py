"""`python -m components.preprocess`: the entry point for DVC."""

from __future__ import annotations

from pathlib import Path

from components.common.data.config import DataConfig
from components.common.entrypoints.dvc import entry_point
from components.common.params import read_yaml, section
from components.common.readers.tiles import reader_settings
from components.preprocess.step import PreprocessConfig, run


def main(params: Path, raw: Path, store: Path) -> None:
    """Read the parameters and call the step."""
    config, split = section(params, "preprocess", PreprocessConfig), section(params, "data", DataConfig).split
    run(config, split, raw, store, reader_settings(read_yaml(params)).accept)


if __name__ == "__main__":
    entry_point(
        "preprocess",
        "Decode labels, scale heights, and store every tile of the split as a file that training maps into memory.",
        {"raw": "data/raw", "store": "data/store"},
        main,
    )
