"""`mobanet model`: inspect networks without training one, and check model files without running them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from components.common.data import datasets
from components.common.data.config import DataConfig
from components.common.errors import ParamsError
from components.common.params import section


def info(
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="timm name, for example vit_large_patch14_dinov2, in the paper's network."),
    ] = None,
    params: Annotated[
        Path, typer.Option(metavar="FILE", help="Without --backbone: file whose section `model` to use.")
    ] = Path("params.yaml"),
    aux_heads: Annotated[bool, typer.Option(help="Include the two auxiliary heads of training.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Count the weights of a network: total and trainable, overall and by part.

    It downloads nothing and allocates no memory for the weights, so it is fast for the largest backbones too.
    """
    from components.train.config import ModelParams
    from model import MoBaNetConfig
    from model.mobanet import count_parameters, on_meta

    try:
        if backbone:
            config = MoBaNetConfig(backbone=backbone)
        else:
            data = section(params, "data", DataConfig)
            dataset = datasets.dataset(data.dataset, data.image)
            config = section(params, "model", ModelParams).network(len(dataset.classes), len(dataset.image.bands))
        network = on_meta(dataclasses.replace(config, aux_heads=aux_heads and config.aux_heads))
    except ValueError as error:
        raise ParamsError(str(error)) from None
    parts = {name: dataclasses.asdict(count) for name, count in count_parameters(network).items()}
    whole = parts.pop("network")
    if as_json:
        typer.echo(json.dumps({"backbone": config.backbone, **whole, "parts": parts}, indent=2))
        return
    table = Table("part", title=f"{config.backbone}, patch size {network.patch_size} px", title_justify="left")
    for column in ("total", "trainable"):
        table.add_column(column, justify="right")
    for name, count in parts.items():
        table.add_row(name, f"{count['total']:,}", f"{count['trainable']:,}", end_section=name == list(parts)[-1])
    table.add_row("network", f"{whole['total']:,}", f"{whole['trainable']:,}")
    Console().print(table)


def verify(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Package folder, .safetensors, .onnx or .pt2 file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check a model file or a package without running anything in it; it prints one line per check.

    A file that is damaged, contradicts itself or could do something else than compute is one sentence, and the exit
    code is 2. The signature of a package is checked by `mobanet package verify`.
    """
    from components.common.predictors.model_checks import verify_model

    checks: list[str] = []
    verify_model(model, checks.append if as_json else typer.echo)
    if as_json:
        typer.echo(json.dumps({"model": str(model), "checks": checks}, indent=2))


def list_(
    pattern: Annotated[
        str | None,
        typer.Argument(
            help="Names with * and ?, for example '*dinov3*'; default: foundation models without a classifier."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the backbones for which timm has weights, with the licence of the weights.

    To use one, set `model.backbone` in params.yaml to its name and `model.weights` to `hub`. This command downloads
    nothing.
    """
    from model.catalogue import pretrained_backbones

    found = pretrained_backbones(pattern)
    if not found:
        raise ParamsError(f"{pattern!r} matches no supported backbone; run the command without a pattern to list them")
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(entry) for entry in found], indent=2))
        return
    table = Table("backbone", "M weights", "patch, px", "positions", "licence of the weights", box=None)
    for column in table.columns[1:3]:
        column.justify = "right"
    for entry in found:
        size = f"{entry.weights / 1e6:,.1f}"
        table.add_row(entry.name, size, str(entry.patch_px), entry.positions, entry.licence)
    console = Console()
    console.width = max(console.width, 120)  # never cut names, because users copy them
    console.print(table)
