"""What a raster file says of itself, whatever it is: size, bands, type, place. No pixel is read.

`components.common.readers.rasters` opens files of an expected layout; here the layout is what is asked for.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning

from components.check.facts import FileFacts
from components.common.errors import DataError
from components.common.readers.rasters import DRIVERS, GDAL_ERRORS, SETTINGS

MAX_RATIO = 2000
"""Bytes of pixels over bytes of the file. LZW and deflate reach about 1000; beyond it, the header is wrong."""

MAX_SIDE_PX = 200_000
"""Rows or columns of a tile; 33 times the side of the largest benchmark tile."""


def read_header(folder: Path, place: str) -> FileFacts:
    """The header of one file.

    Args:
        folder: all places are below it.
        place: the file.

    Raises:
        DataError: the file is no raster of the format that its name says, or declares a size that it cannot have.
    """
    path = folder / place
    driver = DRIVERS.get(path.suffix.lower())
    if driver is None:
        raise DataError(f"its name ends on {path.suffix!r}, expected {', '.join(DRIVERS)}; convert the file")
    try:
        with warnings.catch_warnings(), rasterio.Env(**SETTINGS):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver=driver) as file:
                facts = _facts(place, file)
    except (*GDAL_ERRORS, ValueError) as error:  # ValueError: a text tag that cannot be decoded
        reason = str(error.__cause__ or error).splitlines()[0].removeprefix(f"{path}: ").rstrip(".")
        raise DataError(f"not a readable {driver.removeprefix('G')} ({reason}); copy or download it again") from None
    _require_plausible(path, facts)
    return facts


def _facts(place: str, file: rasterio.DatasetReader) -> FileFacts:
    placed = file.transform != Affine.identity()
    return FileFacts(
        path=place,
        width_px=file.width,
        height_px=file.height,
        bands=file.count,
        dtype=" ".join(dict.fromkeys(file.dtypes)),
        nodata=None if file.nodata is None else float(file.nodata),
        crs=file.crs.to_string() if file.crs else None,
        transform=tuple(float(number) for number in file.transform[:6]) if placed else None,
        colours=tuple(colour.name for colour in file.colorinterp),
    )


def _require_plausible(path: Path, facts: FileFacts) -> None:
    pixels = facts.width_px * facts.height_px * facts.bands
    size = path.stat().st_size
    item = max(np.dtype(name).itemsize if name in np.sctypeDict else 1 for name in facts.dtype.split())
    if max(facts.width_px, facts.height_px) > MAX_SIDE_PX or pixels * item > MAX_RATIO * max(size, 1):
        raise DataError(
            f"declares {facts.width_px} x {facts.height_px} px in {facts.bands} bands, which a file of {size} bytes "
            "cannot hold; copy or download it again"
        )
    if facts.transform is not None and not (np.isfinite(facts.transform).all() and abs(_area(facts.transform)) > 0):
        raise DataError("its georeference is damaged (a pixel has no size); write it anew or delete its world file")


def _area(transform: tuple[float, ...]) -> float:
    a, b, _, d, e, _ = transform
    return a * e - b * d
