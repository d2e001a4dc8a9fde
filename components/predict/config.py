"""Section `predict` of params.yaml, and what one prediction is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from components.common.data.layerinfo import DsmInfo, ImageInfo
from components.common.params import STRICT, Count, Points, Side, Text, Wanted

Extra = Literal["confidence", "entropy", "probabilities", "gates", "sensors"]
"""Layers of a map that are written on request."""

Restart = Literal["no", "yes", "if changed"]
"""Whether to discard the work of an interrupted command. if changed: only with another model, raster or setting."""

Device = Literal["auto", "cpu", "cuda"]


@checked_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class PredictConfig:
    """Section `predict` of params.yaml."""

    tiles: tuple[Text, ...] | None  # of the stage of dvc.yaml; None: the test tiles; empty: no map
    window_px: Side | None  # side of a window; None: the training's window
    overlap: Annotated[float, Field(ge=0, le=0.95)]  # share of a window's side that the next window covers too
    batch_size: Count  # windows per forward pass
    precision: Wanted  # of the network
    block_px: Annotated[int, Field(ge=256, le=65_536)]  # width of the strip that is computed at once, pixels
    min_agreement: Points | None  # of overlapping windows, percent; a map below it is an error; None: no limit


@dataclass(frozen=True, kw_only=True, slots=True)
class Polygons:
    """Polygons of a map."""

    path: Path  # .gpkg, .parquet or .fgb
    min_area_m2: float = 0.0  # smaller polygons join a neighbour
    simplify_m: float = 0.0  # tolerance of simplification, metres; 0: borders follow the pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictRequest:
    """What to map, with which model, and what to write."""

    output: Path  # of the class map, .tif
    model: str = "package"  # package folder, .safetensors, .onnx, or models:/NAME@ALIAS
    image: tuple[str, ...] = ()  # files, globs, URLs; empty: no image
    dsm: tuple[str, ...] = ()  # the same for heights; empty: no DSM
    layers: tuple[ImageInfo, DsmInfo] | None = None  # how pixels become values; None: as the model and the files state
    crs: str | None = None  # of files that state none, for example EPSG:32633
    bands: tuple[int, ...] | None = None  # bands of the image in the model's order, from 1; None: all but alpha
    bounds: tuple[float, float, float, float] | None = None  # left, bottom, right, top in the raster's CRS; None: all
    part: str | None = None  # "I/N"; None: everything
    extras: frozenset[Extra] = frozenset()
    polygons: Polygons | None = None
    summary: Path | None = None
    allow: frozenset[str] = field(default_factory=frozenset)  # reasons of rejection that the user overrules
    restart: Restart = "no"
    device: Device = "auto"
