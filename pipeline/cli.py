"""The command line `mobanet`. Results go to stdout, messages to stderr.

Exit codes: 0 success, 2 something must change first, 75 the same command continues, 130 interrupted; some commands
document further ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from components.common.entrypoints.dvc import exit_code, log_to_stderr
from pipeline import __version__
from pipeline.bench import evaluation, loader, preprocess, train_commands
from pipeline.bench.export import bench as bench_export
from pipeline.bench.prediction import bench as bench_predict
from pipeline.bench.serving import bench as bench_serve
from pipeline.commands import (
    ablate,
    champion,
    check,
    data,
    drift,
    model,
    model_import,
    package,
    params,
    pipeline,
    predict,
    serve,
    submit,
    versions,
)

app = typer.Typer(
    help="MoBaNet Pipeline: segmentation of aerial images fused with heights.\n\n"
    "Run all steps with `dvc repro`, or a single step with `python -m components.STEP`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

COMMANDS: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
    "params": (
        "Set params.yaml from presets for common tasks.",
        {"list": params.list_, "show": params.show, "use": params.use, "diff": params.diff},
    ),
    "data": ("Import and check raw tiles.", {"import": data.import_, "check": check.check}),
    "model": (
        "Inspect, import and check networks.",
        {"info": model.info, "list": model.list_, "import": model_import.import_, "verify": model.verify},
    ),
    "package": (
        "Sign a package, and verify whose package it is.",
        {"sign": package.sign, "verify": package.verify},
    ),
    "pipeline": (
        "Compile, run and submit the Kubeflow graph.",
        {"compile": pipeline.compile_, "run": pipeline.run, "submit": submit.submit},
    ),
    "registry": (
        "Look at registered models, and change which one is the champion.",
        {
            "list": versions.list_,
            "show": versions.show,
            "compare": versions.compare,
            "promote": champion.promote,
            "rollback": champion.rollback,
            "reject": champion.reject,
            "history": versions.history,
            "verify": versions.verify,
            "rescore": champion.rescore,
            "gc": versions.gc,
        },
    ),
    "bench": (
        "Measure speed and memory as ratios within one run.",
        {
            "data": loader.bench,
            "preprocess": preprocess.bench,
            "evaluate": evaluation.bench,
            "export": bench_export,
            "predict": bench_predict,
            "serve": bench_serve,
            "train": train_commands.train,
            "curves": train_commands.curves,
        },
    ),
}
"""Topic -> its help text, and its commands by name."""

for topic, (about, commands) in COMMANDS.items():
    topic_app = typer.Typer(help=about, no_args_is_help=True)
    for name, command in commands.items():
        topic_app.command(name)(command)
    app.add_typer(topic_app, name=topic)
app.command("ablate")(ablate.ablate)
app.command("serve")(serve.serve)
app.command("watch")(drift.watch)
maps = typer.Typer(invoke_without_command=True)
maps.callback()(predict.predict)
maps.command("combine")(predict.combine)
app.add_typer(maps, name="predict")


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Handle `mobanet --version`."""
    if show:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line. An error that a user can fix is one line on stderr."""
    log_to_stderr()
    sys.exit(exit_code(app))


if __name__ == "__main__":
    main()
