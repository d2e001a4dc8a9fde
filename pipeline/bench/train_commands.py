"""The commands `mobanet bench train` and `mobanet bench curves`. torch is imported only when one of them runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]


def train(
    backbone: Annotated[str | None, typer.Option(metavar="NAME", help="timm name. Default on a GPU: ViT-L/14.")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", min=2, help="Crops per step. Default on a GPU: 24.")] = None,
    crop: Annotated[
        int | None, typer.Option(metavar="PX", min=1, help="Side of a crop, pixels. Default on a GPU: 256.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Steps per round. Default on a GPU: 10.")
    ] = None,
    switches: Annotated[bool, typer.Option("--switches", help="Also measure our recipe with each switch off.")] = False,
    alone: Annotated[bool, typer.Option("--alone", help="Leave out the released recipe.")] = False,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Measure what checkpoints cost, with the network of --params.")
    ] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="With --checkpoints: time between two of them.")
    ] = 5.0,
    params: Annotated[Path, typer.Option(metavar="FILE", help="With --checkpoints: parameters.")] = Path("params.yaml"),
    as_json: AsJson = False,
) -> None:
    """Measure training steps of our recipe and the released one, with random crops and weights.

    It downloads nothing. The defaults on a CPU are smaller. "ratio" is the speed of our recipe divided by that of the
    recipe in the line. With --checkpoints, network, batch and crop are those of --params, and "ratio" is the speed
    divided by that without checkpoints.
    """
    if checkpoints:
        if steps is not None or switches or alone:
            raise typer.BadParameter("--steps, --switches and --alone do not apply to --checkpoints")
        _checkpoints(params, backbone, batch, crop, every, as_json)
        return
    from pipeline.bench.train import as_table, bench_train

    report = bench_train(backbone, batch, crop, steps, switches, alone)
    typer.echo(json.dumps(asdict(report), indent=2) if as_json else as_table(report))


def _checkpoints(
    params: Path, backbone: str | None, batch: int | None, crop: int | None, every: float, as_json: bool
) -> None:
    from pipeline.bench.checkpoints import as_table, bench_checkpoints

    report = bench_checkpoints(params, backbone, batch, crop, every)
    typer.echo(json.dumps(asdict(report), indent=2) if as_json else as_table(report))


def curves(
    store: Annotated[Path, typer.Option(metavar="PATH", help="Store that preprocess wrote.")] = Path("data/store"),
    backbone: Annotated[str, typer.Option(metavar="NAME", help="timm name.")] = "vit_large_patch14_dinov2",
    batch: Annotated[int, typer.Option(metavar="N", min=2, help="Crops per step.")] = 24,
    crop: Annotated[int, typer.Option(metavar="PX", min=1, help="Side of a crop, pixels.")] = 256,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Optimiser steps of each run.")] = 500,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Runs of each recipe.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Train with our recipe and the released one, with the same seeds and random weights, and compare their losses."""
    from pipeline.bench.curves import as_table, measure

    found = measure(store, backbone, batch, crop, steps, range(1, seeds + 1))
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else as_table(found))
