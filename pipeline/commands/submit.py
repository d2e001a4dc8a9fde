"""`mobanet pipeline submit`: run a graph on a cluster. kfp is imported only when the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from components.common.entrypoints.kubeflow import IMAGE
from components.common.errors import ParamsError
from pipeline.commands.pipeline import CHANGES, DATA_CLAIM, GRAPH, IMAGE_OPTION, PARAMS, STORAGE_CLASS

FAILED = 3
"""Exit code with --wait if the run does not succeed."""


def submit(
    host: Annotated[
        str,
        typer.Option(
            metavar="URL", envvar="KF_PIPELINES_ENDPOINT", help="URL of the API: the URL of the UI up to the #."
        ),
    ],
    graph: GRAPH = "train",
    image: IMAGE_OPTION = IMAGE,
    data_claim: DATA_CLAIM = None,
    storage_class: STORAGE_CLASS = None,
    params: PARAMS = Path("params.yaml"),
    changes: CHANGES = None,
    experiment: Annotated[
        str, typer.Option(metavar="NAME", help="Experiment; created if it does not exist.")
    ] = "mobanet",
    run_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: the pipeline with date and time.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(metavar="NAME", help="Your namespace, on a multi-user cluster.")
    ] = None,
    cron: Annotated[
        str | None, typer.Option(metavar="'S M H D M W'", help="Create a recurring run; six fields, seconds first.")
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="N[s|m|h|d]", help="Create a recurring run, for example every 12h.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show the tasks until the run ends.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")] = False,
) -> None:
    """Send a graph to Kubeflow Pipelines and run it there.

    Set KFP_TOKEN if the server needs a bearer token. The graph becomes a version of the pipeline `mobanet`,
    `mobanet-predict` or `mobanet-watch`; a graph that was uploaded before is not uploaded again. Prints one line to
    stdout: the run's id and URL.

    Exit 0: started; with --wait: succeeded. Exit 2: bad input, or the server rejects the request. Exit 3: with --wait,
    the run failed. Exit 130: interrupted; a started run continues.
    """
    from pipeline import graphs
    from pipeline.graph import compiled
    from pipeline.submission.api import Server, ServerError
    from pipeline.submission.follow import watch
    from pipeline.submission.send import send
    from pipeline.submission.submission import plan

    if wait and (cron or every):
        raise ParamsError("--wait cannot be combined with --cron or --every; remove one of them")
    server, chosen = Server(host), graphs.graph(graph)
    planned = plan(
        chosen,
        compiled(chosen.build(params, image, chosen.resources, data_claim, storage_class)),
        changes or [],
        experiment=experiment,
        name=run_name,
        namespace=namespace,
        cron=cron,
        every=every,
    )
    if dry_run:
        typer.echo("\n".join([f"to {server.host}, image {image}", *planned.lines()]))
        return
    sent = send(server, planned)
    typer.echo(f"{sent.id} {sent.address}")
    if not wait:
        return
    try:
        wrong = watch(server, sent.id, list(chosen.resources))
    except ServerError as error:
        raise ServerError(f"{error}; the run continues: {sent.address}") from None
    except KeyboardInterrupt:
        typer.echo(f"no longer waiting; the run continues: {sent.address}", err=True)
        raise typer.Exit(130) from None
    if wrong is not None:
        typer.echo(f"error: {wrong}; see {sent.address}", err=True)
        raise typer.Exit(FAILED)
