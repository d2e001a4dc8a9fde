"""Uploaded GeoTIFFs: what is checked before a pixel is decoded.

A client can send any bytes. Only GDAL's GeoTIFF driver opens them, in a folder without other files. Size, bands and
blocks are limited by the header, and a file that names other files is refused.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import rasterio

from components.common.errors import reason
from components.common.rasterfiles.formats import GDAL_ERRORS, SETTINGS
from components.serve.refusals import RequestError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF: little or big endian, classic or BigTIFF."""

MOST_BANDS = 16
MOST_BYTES_PER_PIXEL = 32
"""Bands and bytes of a pixel, all bands together."""

REFERENCES = {"OVERVIEWS": "OVERVIEW_FILE"}
"""Domain of GDAL's metadata -> item that names another file, which GDAL would open."""


def check(path: Path, most_px: int) -> None:
    """Check a file that a client sent.

    Args:
        path: the file, in a folder of its own; its name appears in messages.
        most_px: limit of width times height, also of a block of the file.

    Raises:
        RequestError: it is no GeoTIFF, is larger than the limits, or names other files.
    """
    with path.open("rb") as file:
        if file.read(4) not in MAGIC:
            raise RequestError(415, f"{path.name} is not a GeoTIFF; send a TIFF file with a position")
    try:
        with (
            rasterio.Env(**SETTINGS, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
            rasterio.open(path, driver="GTiff") as file,
        ):
            _check_header(path.name, file, most_px)
    except (*GDAL_ERRORS, ValueError, TypeError, OverflowError) as error:
        said = reason(error).replace(f"{path.parent}/", "")
        raise RequestError(422, f"{path.name} is not a readable GeoTIFF ({said})") from None


def _check_header(name: str, file: rasterio.DatasetReader, most_px: int) -> None:
    size_px = file.width * file.height
    block_px = max((prod(shape) for shape in file.block_shapes), default=0)
    if max(size_px, block_px) > most_px:
        what = f"is {file.width} x {file.height} px" if size_px > most_px else "has blocks"
        raise RequestError(
            413,
            f"{name} {what} ({max(size_px, block_px) / 1e6:.4g} megapixels), and the limit is {most_px / 1e6:.4g}; "
            "send smaller parts, or use mobanet predict",
        )
    pixel_bytes = sum(np.dtype(dtype).itemsize for dtype in file.dtypes)
    if file.count > MOST_BANDS or pixel_bytes > MOST_BYTES_PER_PIXEL:
        raise RequestError(
            413,
            f"{name} has {file.count} bands with {pixel_bytes} bytes per pixel, and the limits are {MOST_BANDS} and "
            f"{MOST_BYTES_PER_PIXEL}; send the bands of the model only",
        )
    for domain, item in REFERENCES.items():
        if item in file.tags(ns=domain):
            raise RequestError(422, f"{name} names another file in its metadata ({item}); remove it with gdal_edit")
