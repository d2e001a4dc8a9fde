"""`mobanet pipeline`: the graph for Kubeflow, compiled or run on this machine; kfp is imported when it is called."""

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

PARAMS = Annotated[Path, typer.Option(metavar="FILE", help="Gives every parameter its default.")]
IMAGE_OPTION = Annotated[
    str, typer.Option(metavar="NAME@DIGEST", envvar="MOBANET_IMAGE", help="Of all tasks; cached only with a digest.")
]
DATA_CLAIM = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A PersistentVolumeClaim with your files; data_path is then below /data."),
]
STORAGE_CLASS = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of the workspace, for ReadWriteMany; else the cluster's default.")
]
DRY_RUN = Annotated[bool, typer.Option("--dry-run", help="Print tasks and parameters, and do nothing.")]


class Runner(StrEnum):
    """What runs a task on this machine."""

    subprocess = "subprocess"
    docker = "docker"


def compile_(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Gets the graph; ends with .yaml.")],
    image: IMAGE_OPTION = IMAGE,
    data_claim: DATA_CLAIM = None,
    storage_class: STORAGE_CLASS = None,
    params: PARAMS = Path("params.yaml"),
    dry_run: DRY_RUN = False,
) -> None:
    """Write the graph as one file that Kubeflow takes."""
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
    runner: Annotated[Runner, typer.Option(help="subprocess: every task is a process; docker: a container.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets a folder of artifacts per run.")] = Path(
        "reports/kubeflow"
    ),
    image: Annotated[str, typer.Option(metavar="NAME", envvar="MOBANET_IMAGE", help="docker: of all tasks.")] = IMAGE,
    network: Annotated[str, typer.Option(metavar="NAME", help="docker: none, host, or one of the engine's.")] = "none",
    params: PARAMS = Path("params.yaml"),
    dry_run: DRY_RUN = False,
) -> None:
    """Run the graph on this machine, in the project's folder, with the parameters of a params file.

    Exit 0: done. Exit 2: a task failed; the sentence names it, its own is above.
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
        gpus = f", GPUs as {need.gpus} says" if need.gpus else ""
        typer.echo(f"{name:<{width}}  {need.cpu} CPU, {need.memory}{gpus}{', cached' if need.cached else ''}")
    for name, value in {**given.form, "params": given.text}.items():
        typer.echo(f"{name} = {value}")
