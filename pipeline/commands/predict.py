"""`mobanet predict`: map a raster of any size, and combine maps of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, get_args

import typer

from components.common.errors import DataError, ParamsError
from components.common.params import from_mapping, section
from components.common.rasterfiles.position import parse_crs
from components.common.trust.config import TrustConfig
from components.predict.config import Device, Extra, Polygons, PredictConfig, PredictRequest, Restart
from pipeline.presets.preset import PARAMS_FILE, named_or_shipped

RASTERS = "file, VRT, glob in quotes, s3:// or https://; repeat it for a mosaic"

OUTPUT = Annotated[Path | None, typer.Option(metavar="FILE.tif", help="The map: a Cloud-Optimized GeoTIFF.")]
POLYGONS = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Also write polygons: .gpkg, .parquet or .fgb.", rich_help_panel="Polygons"),
]
MIN_AREA = Annotated[
    float, typer.Option(metavar="M2", min=0, help="Smaller polygons join a neighbour.", rich_help_panel="Polygons")
]
SIMPLIFY = Annotated[
    float,
    typer.Option(metavar="M", min=0, help="Simplify borders by this tolerance, metres.", rich_help_panel="Polygons"),
]
SUMMARY = Annotated[Path | None, typer.Option(metavar="FILE.json", help="Also write areas, sensor coverage and seams.")]
RESTART = Annotated[bool, typer.Option("--restart", help="Discard the work of an interrupted command.")]
DISCARD: dict[bool, Restart] = {False: "no", True: "yes"}
PARAMS = Annotated[
    Path,
    typer.Option(metavar="FILE", help="Sections predict and trust; without the file, the shipped defaults."),
]


def predict(
    context: typer.Context,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="Package folder, .safetensors, .onnx, .pt2, or models:/NAME@ALIAS.")
    ] = "package",
    image: Annotated[list[str] | None, typer.Option(metavar="IMAGE", help=f"The image: {RASTERS}.")] = None,
    dsm: Annotated[list[str] | None, typer.Option(metavar="DSM", help="The heights, in the same way.")] = None,
    output: OUTPUT = None,
    bands: Annotated[
        str | None, typer.Option(metavar="N,N,N", help="Bands of the image in the model's order, from 1.")
    ] = None,
    crs: Annotated[
        str | None, typer.Option(metavar="EPSG:CODE", help="Reference system of files that state none.")
    ] = None,
    bounds: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="LEFT BOTTOM RIGHT TOP", help="Map only this rectangle, in the raster's CRS."),
    ] = None,
    part: Annotated[str | None, typer.Option(metavar="I/N", help="Map only part I of N; see combine.")] = None,
    confidence: Annotated[bool, typer.Option("--confidence", help="Also write the confidence, percent.")] = False,
    entropy: Annotated[bool, typer.Option("--entropy", help="Also write the entropy, percent of the largest.")] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write the probability of every class, percent.")
    ] = False,
    gates: Annotated[
        bool, typer.Option("--gates", help="Also write the fusion gates: 0 DSM only, 100 image only.")
    ] = False,
    sensors: Annotated[
        bool, typer.Option("--sensors", help="Also write what was measured: 1 image, 2 DSM, 3 both.")
    ] = False,
    polygons: POLYGONS = None,
    min_area: MIN_AREA = 0.0,
    simplify: SIMPLIFY = 0.0,
    summary: SUMMARY = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="REASON", help="Predict although this check fails; repeatable.")
    ] = None,
    restart: RESTART = False,
    window: Annotated[int | None, typer.Option(metavar="PX", help="Override predict.window_px.")] = None,
    overlap: Annotated[float | None, typer.Option(metavar="SHARE", help="Override predict.overlap.")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="Override predict.batch_size.")] = None,
    device: Annotated[Device, typer.Option(help="auto: a GPU if there is one.")] = "auto",
    params: PARAMS = PARAMS_FILE,
) -> None:
    """Map a raster of any size: image and heights -> classes, in the grid and the reference system of the image.

    The image or the heights can be missing. The same command continues after an interruption. Without a subcommand,
    --output and --image or --dsm are needed.

    Exit 0: done. Exit 1: the map is written, but overlapping windows agree less than predict.min_agreement. Exit 2:
    bad input or settings. Exit 75: the same command continues, for example when a server answers again.
    """
    if context.invoked_subcommand is not None:
        return
    from components.predict.step import run

    if output is None or not (image or dsm):
        raise ParamsError("mobanet predict needs --output and --image or --dsm; see mobanet predict --help")
    file = named_or_shipped(params)
    config, trust = section(file, "predict", PredictConfig), section(file, "trust", TrustConfig)
    changes = {"window_px": window, "overlap": overlap, "batch_size": batch}
    flags = {
        "confidence": confidence,
        "entropy": entropy,
        "probabilities": probabilities,
        "gates": gates,
        "sensors": sensors,
    }
    request = PredictRequest(
        model=model,
        image=tuple(image or ()),
        dsm=tuple(dsm or ()),
        output=output,
        bands=_bands(bands),
        crs=_crs(crs),
        bounds=bounds,
        part=part,
        extras=frozenset(name for name in get_args(Extra) if flags[name]),
        polygons=_polygons(polygons, min_area, simplify),
        summary=summary,
        allow=frozenset(allow or ()),
        restart=DISCARD[restart],
        device=device,
    )
    run(_changed(config, changes), request, trust)


def combine(
    parts: Annotated[list[Path], typer.Argument(metavar="PART.tif...", help="All parts of one map, in any order.")],
    output: Annotated[Path, typer.Option(metavar="FILE.tif", help="The complete map.")],
    polygons: POLYGONS = None,
    min_area: MIN_AREA = 0.0,
    simplify: SIMPLIFY = 0.0,
    summary: SUMMARY = None,
    restart: RESTART = False,
    params: PARAMS = PARAMS_FILE,
) -> None:
    """Combine the maps that `mobanet predict --part I/N` wrote; the result is byte-equal to that of one command.

    Layers that the parts have (confidence and so on) are combined too. Polygons get no heights: the parts hold none.

    Exit 0: done. Exit 1: as for predict. Exit 2: a part is missing, or belongs to another map.
    """
    from components.predict.step import run_combine

    config = section(named_or_shipped(params), "predict", PredictConfig)
    run_combine(config, parts, output, _polygons(polygons, min_area, simplify), summary, restart=DISCARD[restart])


def _changed(config: PredictConfig, changes: Mapping[str, object]) -> PredictConfig:
    """The section with the options of the command line, checked like the section itself."""
    given = {key: value for key, value in changes.items() if value is not None}
    return from_mapping(PredictConfig, asdict(config) | given, "predict")


def _bands(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(int(number) for number in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise ParamsError(f"--bands is {text!r}; expected band numbers of the image from 1, for example 3,2,1")
    return numbers


def _crs(text: str | None) -> str | None:
    if text is not None:
        try:
            parse_crs(text)
        except DataError:
            raise ParamsError(
                f"--crs is {text!r}, not a coordinate reference system; write it like EPSG:32633"
            ) from None
    return text


def _polygons(path: Path | None, min_area_m2: float, simplify_m: float) -> Polygons | None:
    if path is None:
        if min_area_m2 or simplify_m:
            raise ParamsError("--min-area and --simplify need --polygons")
        return None
    return Polygons(path=path, min_area_m2=min_area_m2, simplify_m=simplify_m)
