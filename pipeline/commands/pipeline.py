"""`mobanet pipeline`: compile a Kubeflow graph, or run it on this machine. kfp is imported only when it is needed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.common.entrypoints.kubeflow import IMAGE
from components.common.errors import ParamsError
from components.common.files import replacing

if TYPE_CHECKING:
    from pipeline.graphs import Graph

GRAPH = Annotated[str, typer.Argument(metavar="[train|predict|watch]", help="The graph.", show_default=True)]
PARAMS = Annotated[Path, typer.Option(metavar="FILE", help="File with the default of every parameter.")]
IMAGE_OPTION = Annotated[
    str,
    typer.Option(
        metavar="NAME@DIGEST", envvar="MOBANET_IMAGE", help="Image of all tasks; tasks are cached only with a digest."
    ),
]
DATA_CLAIM = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="PersistentVolumeClaim with your files; tasks see it as /data."),
]
STORAGE_CLASS = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Storage class of the workspace, with ReadWriteMany; default: the cluster's."),
]
CHANGES = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter of this run; repeatable.")
]
DRY_RUN = Annotated[bool, typer.Option("--dry-run", help="Print tasks and parameters, and stop.")]


class Runner(StrEnum):
    """How to run a task on this machine."""

    subprocess = "subprocess"
    docker = "docker"


def compile_(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Output file; must end with .yaml.")],
    graph: GRAPH = "train",
    image: IMAGE_OPTION = IMAGE,
    data_claim: DATA_CLAIM = None,
    storage_class: STORAGE_CLASS = None,
    params: PARAMS = Path("params.yaml"),
    dry_run: DRY_RUN = False,
) -> None:
    """Compile a graph to one YAML file for Kubeflow."""
    from pipeline import graphs
    from pipeline.graph import compiled

    if out.suffix not in (".yaml", ".yml"):
        raise ParamsError(f"--out is {out}; expected a name that ends with .yaml")
    chosen = graphs.graph(graph)
    text = compiled(chosen.build(params, image, chosen.resources, data_claim, storage_class))
    if dry_run:
        _print_plan(chosen, graphs.values(text, []))
        return
    with replacing(out) as draft:
        draft.write_text(text)
    typer.echo(f"{out}: {len(text) / 1000:.0f} kB, image {image}", err=True)


def run(
    runner: Annotated[Runner, typer.Option(help="subprocess: run tasks as processes; docker: as containers.")],
    graph: GRAPH = "train",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Artifacts folder; each run gets a folder in it.")] = Path(
        "reports/kubeflow"
    ),
    changes: CHANGES = None,
    image: Annotated[
        str, typer.Option(metavar="NAME", envvar="MOBANET_IMAGE", help="docker: image of all tasks.")
    ] = IMAGE,
    network: Annotated[
        str, typer.Option(metavar="NAME", help="docker: none, host, or a network of the engine.")
    ] = "none",
    params: PARAMS = Path("params.yaml"),
    dry_run: DRY_RUN = False,
) -> None:
    """Run a graph on this machine, in the project folder, with the parameters of a params file.

    Exit 0: done. Exit 2: a task failed; the error names it, and the task's own message is in the log above.
    """
    from pipeline import graphs
    from pipeline.graph import compiled
    from pipeline.local import run as run_here

    chosen = graphs.graph(graph)
    built = chosen.build(params, IMAGE, {})
    values = graphs.values(compiled(built), changes or [])
    if dry_run:
        _print_plan(chosen, values)
        return
    chosen.check(values)
    containers = None
    if runner is Runner.docker:
        from pipeline.containers import Containers

        containers = Containers(image, network)
    run_here(built, values, chosen.places(values), out, containers)
    typer.echo(f"artifacts: {out}", err=True)


def _print_plan(graph: Graph, values: dict[str, Any]) -> None:
    width = max(map(len, graph.resources))
    for name, need in graph.resources.items():
        gpus = f", GPUs: {need.gpus}" if need.gpus else ""
        typer.echo(f"{name:<{width}}  {need.cpu} CPU, {need.memory}{gpus}{', cached' if need.cached else ''}")
    for name, value in values.items():
        typer.echo(f"{name} = {value}")
