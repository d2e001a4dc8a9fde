"""A raster looked through from the first to the last pixel: is it whole, what was measured, does it know its place.

In: one file. Out: a `Look`, by which two files for the same place are compared, or `Damaged`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio import Affine
from rasterio.enums import Interleaving, MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from components.acquire.archives import Damaged
from components.common.readers.rasters import DRIVERS, GDAL_ERRORS

SETTINGS = {"GDAL_CACHEMAX": 64, "GDAL_ERROR_ON_LIBJPEG_WARNING": True}
"""MB; a JPEG that was cut is an error. No GTIFF_DIRECT_IO: it reads past the end of a cut TIFF and says nothing."""

MAX_RATIO = 2000
MIN_REFUSED = 1 << 30
"""A file whose pixels take more bytes than both this and `MAX_RATIO` times its own is not looked through."""

PIECE = 1 << 25
"""Bytes of pixels read at a time."""

MAX_HEIGHT_M = 9000.0
"""A higher or deeper value of a float raster marks a hole, whether the file says so or not."""

CORNER = 60
"""A channel this near to 0 or 255 may be that of a colour of the labels, also after a lossy picture format."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a file is worth."""

    measured_px: int
    placed: bool  # it has a georeference
    label_share: float  # of the bright pixels of an RGB picture, those with a colour of labels, 0..1; NaN: none

    @property
    def rank(self) -> tuple[int, bool]:
        """The better of two files for one place has the higher one."""
        return self.measured_px, self.placed


def look(path: Path, suffix: str, name: str) -> Look:
    """Read a whole file.

    Args:
        path: the file, under any name.
        suffix: what the name of its place ends on; says which format it must have.
        name: for messages.

    Raises:
        Damaged: it cannot be read to its end, or claims a size that it cannot have.
    """
    try:
        with warnings.catch_warnings(), rasterio.Env(**SETTINGS):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver=driver_of(suffix, name)) as file:
                return _look(file, path.stat().st_size)
    except (*GDAL_ERRORS, ValueError, MemoryError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        reason = reason.replace(str(path), "").replace(path.name, "").strip("',: .").replace("'' ", "")
        raise Damaged(f"{name}: not a readable raster ({reason}); download or copy it again") from None


def driver_of(suffix: str, name: str) -> str:
    """GDAL's name of a format.

    Raises:
        Damaged: the format is none of those that are read.
    """
    driver = DRIVERS.get(suffix.lower())
    if driver is None:
        raise Damaged(f"{name}: its name ends on {suffix!r}; expected {', '.join(DRIVERS)}: convert the file")
    return driver


def _look(file: rasterio.DatasetReader, size: int) -> Look:
    claimed = file.width * file.height * sum(np.dtype(dtype).itemsize for dtype in file.dtypes)
    if claimed > max(MIN_REFUSED, MAX_RATIO * size):
        raise ValueError(f"it claims {file.width} x {file.height} pixels in {size} bytes")
    all_valid = MaskFlags.all_valid in file.mask_flag_enums[0]
    measured = bright = like_labels = 0
    for window in _windows(file):
        pixels_BHW = file.read(window=window)
        valid_HW = np.ones(pixels_BHW.shape[1:], bool) if all_valid else file.read_masks(1, window=window) > 0
        if np.issubdtype(pixels_BHW.dtype, np.floating):
            valid_HW &= (np.abs(pixels_BHW) < MAX_HEIGHT_M).all(0)  # also False for NaN
        measured += int(valid_HW.sum())
        counts = _colours(pixels_BHW)
        bright, like_labels = bright + counts[0], like_labels + counts[1]
    measured = max(0, measured - _unwritten_px(file))
    return Look(measured, file.transform != Affine.identity(), like_labels / bright if bright else float("nan"))


def _windows(file: rasterio.DatasetReader) -> Iterator[Window]:
    """Whole rows of blocks, so that no block is unpacked twice."""
    block_h = file.block_shapes[0][0]
    row_bytes = file.width * sum(np.dtype(dtype).itemsize for dtype in file.dtypes)
    rows = max(1, PIECE // (row_bytes * block_h)) * block_h
    for first in range(0, file.height, rows):
        yield Window(0, first, file.width, min(rows, file.height - first))


def _colours(pixels_BHW: npt.NDArray[Any]) -> tuple[int, int]:
    """Number of bright pixels, and of those whose channels are all about 0 or 255; dark ones tell nothing."""
    if pixels_BHW.shape[0] != 3 or pixels_BHW.dtype != np.uint8:
        return 0, 0
    bright_HW = (pixels_BHW > 127).any(0)
    corner_HW = ((pixels_BHW < CORNER) | (pixels_BHW > 255 - CORNER)).all(0)
    return int(bright_HW.sum()), int((bright_HW & corner_HW).sum())


def _unwritten_px(file: rasterio.DatasetReader) -> int:
    """Pixels of blocks that are absent from a TIFF, which GDAL reads as zeros: a copy that was broken off."""
    if file.driver != "GTiff" or file.nodata is not None:
        return 0
    block_h, block_w = file.block_shapes[0]
    blocks = product(range(ceil(file.width / block_w)), range(ceil(file.height / block_h)))
    planes = range(1, file.count + 1) if file.interleaving == Interleaving.band else (1,)
    names = (f"BLOCK_OFFSET_{column}_{row}" for column, row in blocks)
    absent = sum(file.get_tag_item(name, "TIFF", bidx=plane) is None for name, plane in product(names, planes))
    return absent * block_h * block_w
