"""`mobanet pipeline`: compile the Kubeflow graph, or run it on this machine. kfp is imported only when it is needed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.common.entrypoints.kubeflow import IMAGE
from components.common.errors import ParamsError
from components.common.files import replacing

if TYPE_CHECKING:
    from pipeline.form import Defaults

PARAMS = Annotated[Path, typer.Option(metavar="FILE", help="File with the default of every parameter.")]
IMAGE_OPTION = Annotated[
    str,
    typer.Option(
        metavar="NAME@DIGEST", envvar="MOBANET_IMAGE", help="Image of all tasks; tasks are cached only with a digest."
    ),
]
DATA_CLAIM = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="PersistentVolumeClaim with your files; set data_path to a path in /data."),
]
STORAGE_CLASS = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Storage class of the workspace, with ReadWriteMany; default: the cluster's."),
]
DRY_RUN = Annotated[bool, typer.Option("--dry-run", help="Print tasks and parameters, and stop.")]


class Runner(StrEnum):
    """How to run a task on this machine."""

    subprocess = "subprocess"
    docker = "docker"


def compile_(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Output file; must end with .yaml.")],
    image: IMAGE_OPTION = IMAGE,
    data_claim: DATA_CLAIM = None,
    storage_class: STORAGE_CLASS = None,
    params: PARAMS = Path("params.yaml"),
    dry_run: DRY_RUN = False,
) -> None:
    """Compile the graph to one YAML file for Kubeflow."""
    from pipeline.form import defaults
    from pipeline.graph import build, compiled
    from pipeline.resources import RESOURCES

    if out.suffix not in (".yaml", ".yml"):
        raise ParamsError(f"--out is {out}; expected a name that ends with .yaml")
    given = defaults(params)
    text = compiled(build(given, image, RESOURCES, data_claim, storage_class))
    if dry_run:
        _print_plan(given)
        return
    with replacing(out) as draft:
        draft.write_text(text)
    typer.echo(f"{out}: {len(text) / 1000:.0f} kB, image {image}", err=True)


def run(
    runner: Annotated[Runner, typer.Option(help="subprocess: run tasks as processes; docker: as containers.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Artifacts folder; each run gets a folder in it.")] = Path(
        "reports/kubeflow"
    ),
    image: Annotated[
        str, typer.Option(metavar="NAME", envvar="MOBANET_IMAGE", help="docker: image of all tasks.")
    ] = IMAGE,
    network: Annotated[
        str, typer.Option(metavar="NAME", help="docker: none, host, or a network of the engine.")
    ] = "none",
    params: PARAMS = Path("params.yaml"),
    dry_run: DRY_RUN = False,
) -> None:
    """Run the graph on this machine, in the project folder, with the parameters of a params file.

    Exit 0: done. Exit 2: a task failed; the error names it, and the task's own message is in the log above.
    """
    from pipeline.form import defaults
    from pipeline.graph import build
    from pipeline.local import run as run_here

    given = defaults(params)
    graph = build(given, IMAGE, {})
    if dry_run:
        _print_plan(given)
        return
    containers = None
    if runner is Runner.docker:
        from pipeline.containers import Containers

        containers = Containers(image, network)
    run_here(graph, given.form, out, containers)
    typer.echo(f"artifacts: {out}", err=True)


def _print_plan(given: Defaults) -> None:
    from pipeline.resources import RESOURCES

    width = max(map(len, RESOURCES))
    for name, need in RESOURCES.items():
        gpus = f", GPUs: {need.gpus}" if need.gpus else ""
        typer.echo(f"{name:<{width}}  {need.cpu} CPU, {need.memory}{gpus}{', cached' if need.cached else ''}")
    for name, value in {**given.form, "params": given.text}.items():
        typer.echo(f"{name} = {value}")
