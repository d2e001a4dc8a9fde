"""GeoTIFFs, read with rasterio: pixels in the file's band order, where they lie, and which of them hold no measurement.

A file that is missing, cut short, no TIFF, or not of the expected layout is one `DataError` that names it and says what
to do. The georeference is the file's own or that of a world file (`.tfw`) beside it. GDAL itself prints nothing.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import Interleaving, MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError

from components.common.errors import DataError

logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # GDAL's messages arrive there, and as exceptions once more


@dataclass(frozen=True, slots=True)
class Raster:
    """The content of one file."""

    pixels_BHW: npt.NDArray[Any]
    missing_HW: npt.NDArray[np.bool_] | None  # True where the first band is marked as nodata; None: nothing is marked
    transform: Affine | None  # pixel -> map; None: neither the file nor a world file has one
    crs: CRS | None  # None: the file has none (a world file cannot have one)


def read_raster(path: Path, *, bands: int, dtypes: Collection[str]) -> Raster:
    """Read a whole file.

    Args:
        path: a TIFF.
        bands: how many it must have.
        dtypes: pixel types it may have, by their NumPy names.

    Raises:
        DataError: it is missing, unreadable anywhere, or of another layout.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; run the acquire step again")
    with _one_sentence(path), rasterio.open(path, driver="GTiff") as dataset:
        _check_layout(path, dataset, bands, dtypes)
        marked = MaskFlags.all_valid not in dataset.mask_flag_enums[0]
        return Raster(
            pixels_BHW=dataset.read(),
            missing_HW=dataset.read_masks(1) == 0 if marked else None,
            transform=None if dataset.transform == Affine.identity() else dataset.transform,
            crs=dataset.crs,
        )


def parse_crs(text: str) -> CRS:
    """A coordinate reference system from its name.

    Raises:
        DataError: there is none of this name.
    """
    try:
        return CRS.from_user_input(text)
    except CRSError:
        raise DataError(f"{text!r} is no coordinate reference system; write data.crs like EPSG:32633") from None


def same_crs(one: CRS, other: CRS) -> bool:
    """Whether two reference systems are the same, however their files spell them."""
    return one == other or (one.to_epsg() is not None and one.to_epsg() == other.to_epsg())


def _check_layout(path: Path, dataset: rasterio.DatasetReader, bands: int, dtypes: Collection[str]) -> None:
    if dataset.count != bands:
        raise DataError(f"{path}: has {dataset.count} bands, expected {bands}; put the {bands}-band file in its place")
    if odd := sorted(set(dataset.dtypes) - set(dtypes)):
        raise DataError(f"{path}: its pixels are {odd[0]}, expected {' or '.join(dtypes)}; convert the file")
    if dataset.nodata is None and _has_holes(dataset):
        raise DataError(f"{path}: some blocks were never written; the file is incomplete, copy or download it again")


def _has_holes(dataset: rasterio.DatasetReader) -> bool:
    """Whether blocks are absent from the file: GDAL reads those as zeros and reports nothing."""
    block_h, block_w = dataset.block_shapes[0]
    blocks = product(range(ceil(dataset.width / block_w)), range(ceil(dataset.height / block_h)))
    planes = range(1, dataset.count + 1) if dataset.interleaving == Interleaving.band else (1,)
    names = (f"BLOCK_OFFSET_{column}_{row}" for column, row in blocks)
    return any(dataset.get_tag_item(name, "TIFF", bidx=plane) is None for name, plane in product(names, planes))


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except (RasterioError, ValueError) as error:  # ValueError: a CRS or a text tag that cannot be decoded
        reason = str(error.__cause__ or error).splitlines()[0].removeprefix(f"{path}: ").rstrip(".")
        raise DataError(f"{path}: not a readable TIFF ({reason}); copy or download it again") from None
