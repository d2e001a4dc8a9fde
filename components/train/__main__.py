"""`python -m components.train`: the command that DVC runs."""

from __future__ import annotations

from pathlib import Path

from components.common.entrypoints.dvc import entry_point
from components.common.params import section
from components.train.config import ModelParams, RuntimeConfig, TrainConfig
from components.train.step import run


def main(params: Path, store: Path, models: Path, checkpoints: Path) -> None:
    """Read the parameters and run the step."""
    run(
        section(params, "train", TrainConfig),
        section(params, "model", ModelParams),
        section(params, "runtime", RuntimeConfig),
        store,
        models,
        checkpoints,
    )


if __name__ == "__main__":
    entry_point(
        "train",
        "Train on the store and select the checkpoint with the best expected mIoU.",
        {"store": "data/store", "models": "models", "checkpoints": "checkpoints"},
        main,
    )
