"""`mobanet watch`: compare scenes of production with the validation tiles of a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from components.common.errors import ParamsError
from components.common.params import section
from components.predict.config import Device
from pipeline.presets.preset import PARAMS_FILE, named_or_shipped

SCENES = "a folder or s3://BUCKET/PREFIX (each raster a scene), a file, a glob, a URL, or JSON"


def watch(
    scenes: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE[,DSM]", help="Scenes, each an image and its DSM.")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="models:/NAME@ALIAS, models:/NAME/VERSION or a package folder.")
    ] = "models:/mobanet@champion",
    image: Annotated[str, typer.Option(metavar="SCENES", help=f"The images: {SCENES}.")] = "",
    dsm: Annotated[str, typer.Option(metavar="SCENES", help="The heights, by the names of the images.")] = "",
    crs: Annotated[
        str | None, typer.Option(metavar="EPSG:CODE", help="Reference system of files that state none.")
    ] = None,
    reports: Annotated[Path, typer.Option(metavar="DIR", help="Gets drift.html and drift.json.")] = Path("reports"),
    as_json: Annotated[bool, typer.Option("--json", help="Print drift.json instead of a table.")] = False,
    device: Annotated[Device, typer.Option(help="auto: a GPU if there is one.")] = "auto",
    params: Annotated[Path, typer.Option(metavar="FILE", help="Sections watch and runtime.")] = PARAMS_FILE,
) -> None:
    """Compare scenes with the validation tiles of a model: classes, confidence, entropy, bands, heights, sensors.

    Windows are drawn at random from all scenes. Limits are in the section watch of params.yaml. An MLflow run records
    the result, unless runtime.tracking is none.

    Exit 0: no drift. Exit 1: drift. Exit 2: bad input or settings.
    """
    from components.train.config import RuntimeConfig
    from components.watch.config import WatchConfig, WatchRequest
    from components.watch.report import table
    from components.watch.watching import PAGE, observe, require_none

    file = named_or_shipped(params)
    config, runtime = section(file, "watch", WatchConfig), section(file, "runtime", RuntimeConfig)
    if scenes:
        if image or dsm:
            raise ParamsError("name the scenes as arguments or with --image and --dsm, not both")
        image, dsm = texts_of(scenes)
    request = WatchRequest(model=model, image=image, dsm=dsm, crs=crs, reports=reports, device=device)
    content = observe(config, request, runtime.tracking, runtime.experiment)
    typer.echo(json.dumps(content, indent=2) if as_json else "\n".join(table(content)))
    require_none(content, reports / PAGE)


def texts_of(scenes: Sequence[str]) -> tuple[str, str]:
    """Arguments such as `a.tif,a_dsm.tif` -> the texts of all images and of all heights.

    Raises:
        ParamsError: an argument names no image, or more than two files.
    """
    images, heights = {}, {}
    for number, scene in enumerate(scenes, 1):
        image, *rest = scene.split(",")
        if not image or len(rest) > 1 or not all(rest):
            raise ParamsError(f"{scene!r} is no scene; write IMAGE or IMAGE,DSM")
        name = f"{number:03}"
        images[name] = image
        if rest:
            heights[name] = rest[0]
    return json.dumps(images), json.dumps(heights) if heights else ""
