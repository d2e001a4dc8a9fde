"""Command line of the register step, which DVC calls: `python -m components.register`.

The exit code is 0 also if the champion stays, because that is a normal outcome.
"""

from __future__ import annotations

from pathlib import Path

from components.common.entrypoints.dvc import entry_point
from components.common.params import section
from components.common.trust.config import TrustConfig
from components.register.config import RegisterConfig
from components.register.step import run


def main(params: Path, package: Path, training_run: Path, out: Path) -> None:
    """Read the sections `register` and `trust` of the params file, run the step, and print gates and outcome."""
    config, trust = section(params, "register", RegisterConfig), section(params, "trust", TrustConfig)
    print(run(config, package, training_run, out, trust).as_table())


if __name__ == "__main__":
    entry_point(
        "register",
        "Register a package in MLflow, and make it the champion if it passes the gates.",
        {
            "package": "package",
            "training_run": "models/run.json",
            "out": "reports/registration.json",
        },
        main,
    )
