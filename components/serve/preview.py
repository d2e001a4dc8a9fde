"""Pictures of a finished request for the service's page: both rasters, the map and its further layers.

In: the files of a request. Out: a mapping for JSON, with pictures as data URIs and the map itself in base64.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import Resampling

from components.common.scoring.inline_pictures import data_uri
from components.common.scoring.panels import Picture, class_picture, gate_picture, ramp
from components.predict.config import Extra
from components.predict.outputs.map_layers import SENSORS, layer_path
from components.predict.publication import map_pictures
from components.serve.map_requests import MapFiles

SIDE_PX = 1600
"""Longest side of a picture, pixels."""

CONFIDENCE = ramp(((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)))
"""Colours of 0 to 100 % confidence."""

SENSOR_COLOURS = ((0, 0, 0), (86, 180, 233), (230, 159, 0), (0, 158, 115))
"""No class, image only, DSM only, both; told apart by readers who are colour-blind."""

NO_CLASS = 255


def extras_of(has_gates: bool) -> frozenset[Extra]:
    """Layers of a preview in addition to the classes; a network of one sensor has no gates."""
    return frozenset({"confidence", "sensors", "gates"} if has_gates else {"confidence", "sensors"})


def preview(files: MapFiles, model: Mapping[str, str]) -> dict[str, Any]:
    """Describe a finished map.

    Args:
        files: map and rasters of the request.
        model: what names the model.

    Raises:
        MobanetError: a raster cannot be read.
    """
    colours = map_pictures.classes_of(files.map)
    with rasterio.open(files.map) as file:
        counts = np.bincount(file.read(1).ravel(), minlength=NO_CLASS + 1)
        place = {"crs": None if file.crs is None else file.crs.to_string(), "transform": list(file.transform)[:6]}
        size = {"width": file.width, "height": file.height}
    known = int(counts[:NO_CLASS].sum())
    legend = [
        {"name": name, "rgb": rgb, "share": int(counts[value]) / known if known else None}
        for value, (name, rgb) in enumerate(colours.items())
    ]
    return {
        "model": dict(model),
        **size,
        **place,
        "legend": legend,
        "sensors": [{"name": name, "rgb": rgb} for name, rgb in zip(SENSORS, SENSOR_COLOURS, strict=True)],
        "layers": {
            name: data_uri(picture, SIDE_PX) for name, picture in _pictures(files, list(colours.values())).items()
        },
        "map": base64.b64encode(files.map.read_bytes()).decode(),
    }


def _pictures(files: MapFiles, palette: list[tuple[int, int, int]]) -> dict[str, Picture]:
    """Name -> picture `[h, w, 3]`, from the ground up."""
    found: dict[str, Picture] = {}
    for name, draw in (("image", map_pictures.photograph), ("dsm", map_pictures.heights)):
        if name in files.rasters:
            found[name] = draw([str(files.rasters[name])], SIDE_PX)
    found["classes"] = map_pictures.classes_picture(files.map, palette, SIDE_PX)
    found["confidence"] = _coloured(layer_path(files.map, "confidence"), CONFIDENCE)
    if (gates := layer_path(files.map, "gates")).is_file():
        percent_hw = _small(gates)
        picture = gate_picture(np.float32(0.01) * percent_hw.clip(0, 100).astype(np.float32))
        picture[percent_hw == NO_CLASS] = 0
        found["gates"] = picture
    found["sensors"] = class_picture(_small(layer_path(files.map, "sensors")), SENSOR_COLOURS)
    return found


def _coloured(layer: Path, table: npt.NDArray[np.uint8]) -> Picture:
    """Percentages of a layer in the colours of a table `[256, 3]`; black: no class."""
    percent_hw = _small(layer)
    picture = table[(percent_hw.clip(0, 100) * 2.55).astype(np.uint8)]
    picture[percent_hw == NO_CLASS] = 0
    return picture


def _small(layer: Path) -> npt.NDArray[np.uint8]:
    """A layer `[h, w]`, at most `SIDE_PX` wide and high."""
    with rasterio.open(layer) as file:
        factor = -(-max(file.height, file.width) // SIDE_PX)
        shape = -(-file.height // factor), -(-file.width // factor)
        pixels_hw: npt.NDArray[np.uint8] = file.read(1, out_shape=shape, resampling=Resampling.nearest)
    return pixels_hw
