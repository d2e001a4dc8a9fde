"""`python -m components.register`: the door for DVC. Exit 0 also when the champion stays: an outcome, no error."""

from __future__ import annotations

from pathlib import Path

from components.common.entrypoints.dvc import open_door
from components.common.params import section
from components.register.step import RegisterConfig, run


def main(params: Path, package: Path, evaluation: Path, training_run: Path, out: Path) -> None:
    """Read the parameters, call the step, print its verdict."""
    print(run(section(params, "register", RegisterConfig), package, evaluation, training_run, out).as_table())


if __name__ == "__main__":
    open_door(
        "register",
        "Put a package into the MLflow registry, and make it the champion if it passes the gates.",
        {
            "package": "package",
            "evaluation": "reports/evaluation.json",
            "training_run": "models/run.json",
            "out": "reports/registration.json",
        },
        main,
    )
