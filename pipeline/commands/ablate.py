"""`mobanet ablate`: run a study and write its tables. torch is imported only when the command runs.

`python -m pipeline.commands.ablate` is the same command. It needs neither GDAL nor MLflow, DVC and Kubeflow, so it runs
where only the packages of the training are installed, with `runtime.tracking: none`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from components.common.entrypoints.dvc import exit_code, log_to_stderr
from components.common.errors import ParamsError

STUDIES = Path(__file__).parents[1] / "ablation" / "studies.yaml"


def ablate(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="Name of the study, e.g. single; an unknown name lists them.")
    ],
    studies: Annotated[
        Path, typer.Option(metavar="FILE", help="File with the studies, in the format of the built-in one.")
    ] = STUDIES,
    seeds: Annotated[str, typer.Option(metavar="N,N,..", help="Seeds; every variant is trained with each.")] = "1,2,3",
    params: Annotated[Path, typer.Option(metavar="FILE", help="Parameters that the variants change.")] = Path(
        "params.yaml"
    ),
    store: Annotated[Path, typer.Option(metavar="DIR", help="Store that preprocess wrote.")] = Path("data/store"),
    out: Annotated[Path, typer.Option(metavar="DIR", help="Output folder, for runs/ and STUDY/.")] = Path(
        "reports/ablation"
    ),
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Parallel trainings; they share the cores.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the trainings and their state.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of the tables.")] = False,
) -> None:
    """Train every variant of a study with every seed, and compare them: mIoU, balance, gates.

    Run the same command again after an interruption: finished trainings are skipped and interrupted ones resume.
    STUDY/ contains table.md, table.tex, results.json and pictures; docs/ablations.md explains them. The best variant is
    selected on validation tiles only.
    """
    from pipeline.ablation.plan import plan, run_study
    from pipeline.ablation.table import as_text
    from pipeline.ablation.trainings import state

    planned = plan(study, studies, params, parse_seeds(seeds), store, out, jobs)
    if dry_run:
        for job in planned.jobs:
            typer.echo(f"{job.variant}, seed {job.train.seed}: {state(job, planned.setting)} ({job.folder})")
        return
    results = run_study(planned)
    typer.echo(json.dumps(results.document(), indent=2) if as_json else as_text(results))
    typer.echo(f"tables and pictures: {planned.folder}", err=True)


def parse_seeds(text: str) -> list[int]:
    """Parse the option `--seeds`.

    Raises:
        ParamsError: the text is not a list of different whole numbers >= 0.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len({*map(int, parts)}) < len(parts):
        raise ParamsError(f"--seeds is {text!r}; expected different whole numbers >= 0, for example 1,2,3")
    return [int(part) for part in parts]


if __name__ == "__main__":
    log_to_stderr()
    sys.exit(exit_code(lambda: typer.run(ablate)))
