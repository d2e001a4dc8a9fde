"""Reads a raster to its last pixel: is it complete, how many pixels hold a measurement, does it have a position.

In: one file. Out: a `Look`, which ranks two files for the same place, or `Damaged`.
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
from components.common.rasterfiles.formats import FORMATS, GDAL_ERRORS, SETTINGS, format_of, unsupported

READ_SETTINGS = {key: value for key, value in SETTINGS.items() if key != "GTIFF_DIRECT_IO"}
"""Without direct access, which reads past the end of a truncated TIFF and reports nothing."""

MAX_RATIO = 2000
MAX_SMALL_FILE_BYTES = 1 << 34
"""A raster with more bytes of pixels than this, and than `MAX_RATIO` times the size of its files, is not read."""

PIECE = 1 << 25
"""Bytes of pixels read at a time."""

MAX_HEIGHT_M = 9000.0
"""Larger absolute values of a float raster count as not measured."""

CORNER = 60
"""Largest distance of a channel from 0 or 255 in a label colour; lossy compression changes colours."""


@dataclass(frozen=True, slots=True)
class Look:
    """What ranks a file."""

    measured_px: int
    placed: bool  # it has a position
    label_share: float  # share of an RGB image's bright pixels with a label colour, 0..1; NaN: no bright pixels

    @property
    def rank(self) -> tuple[int, bool]:
        """The better of two files for one place has the higher rank."""
        return self.measured_px, self.placed


def look(path: Path, suffix: str, name: str, size: int | None = None) -> Look:
    """Read a complete file.

    Args:
        path: the file, under any name.
        suffix: suffix of its place, which determines the format.
        name: for messages.
        size: bytes of all files that hold the pixels; None: of this file.

    Raises:
        Damaged: the file cannot be read to its end, or has more pixels than its size allows.
    """
    if suffix.lower() not in FORMATS:
        raise Damaged(f"{name}: {unsupported(name)}")
    form = format_of(path.with_suffix(suffix))
    try:
        with warnings.catch_warnings(), rasterio.Env(**READ_SETTINGS):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver=form.driver) as file:
                return _look(file, path.stat().st_size if size is None else size)
    except (*GDAL_ERRORS, ValueError, MemoryError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        reason = reason.replace(str(path), "").replace(path.name, "").strip("',: .").replace("'' ", "")
        remedy = f"copy it again together with its {form.sidecars[0]} file" if form.sidecars else "copy it again"
        raise Damaged(f"{name}: not a readable {form.name} ({reason}); {remedy}") from None


def _look(file: rasterio.DatasetReader, size: int) -> Look:
    claimed = file.width * file.height * _pixel_bytes(file)
    if claimed > max(MAX_SMALL_FILE_BYTES, MAX_RATIO * size):
        raise ValueError(f"it claims {file.width} x {file.height} pixels in {size} bytes")
    all_valid = MaskFlags.all_valid in file.mask_flag_enums[0]
    measured = bright = like_labels = 0
    for window in _windows(file):
        pixels_BHW = np.stack([file.read(number, window=window) for number in file.indexes])  # types may differ
        valid_HW = np.ones(pixels_BHW.shape[1:], bool) if all_valid else file.read_masks(1, window=window) > 0
        if np.issubdtype(pixels_BHW.dtype, np.floating):
            valid_HW &= (np.abs(pixels_BHW) < MAX_HEIGHT_M).all(0)  # also False for NaN
        measured += int(valid_HW.sum())
        counts = _colours(pixels_BHW)
        bright, like_labels = bright + counts[0], like_labels + counts[1]
    measured = max(0, measured - _unwritten_px(file))
    placed = file.transform != Affine.identity() or bool(file.gcps[0])
    return Look(measured, placed, like_labels / bright if bright else float("nan"))


def _pixel_bytes(file: rasterio.DatasetReader) -> int:
    """Bytes of all bands of a pixel; NumPy has no complex integers, which are read as complex64."""
    types = ("complex64" if dtype == "complex_int16" else dtype for dtype in file.dtypes)
    return sum(np.dtype(dtype).itemsize for dtype in types)


def _windows(file: rasterio.DatasetReader) -> Iterator[Window]:
    """Complete rows of blocks, so that each block is decompressed once."""
    block_h = file.block_shapes[0][0]
    row_bytes = file.width * _pixel_bytes(file)
    rows = max(1, PIECE // (row_bytes * block_h)) * block_h
    for first in range(0, file.height, rows):
        yield Window(0, first, file.width, min(rows, file.height - first))


def _colours(pixels_BHW: npt.NDArray[Any]) -> tuple[int, int]:
    """Number of bright pixels, and of bright pixels whose channels are all near 0 or 255; dark pixels do not count."""
    if pixels_BHW.shape[0] != 3 or pixels_BHW.dtype != np.uint8:
        return 0, 0
    bright_HW = (pixels_BHW > 127).any(0)
    corner_HW = ((pixels_BHW < CORNER) | (pixels_BHW > 255 - CORNER)).all(0)
    return int(bright_HW.sum()), int((bright_HW & corner_HW).sum())


def _unwritten_px(file: rasterio.DatasetReader) -> int:
    """Pixels of blocks that a TIFF does not store and GDAL reads as zeros: a sparse file, or an interrupted copy."""
    if file.driver != "GTiff" or file.nodata is not None:
        return 0
    block_h, block_w = file.block_shapes[0]
    blocks = product(range(ceil(file.width / block_w)), range(ceil(file.height / block_h)))
    planes = range(1, file.count + 1) if file.interleaving == Interleaving.band else (1,)
    names = (f"BLOCK_OFFSET_{column}_{row}" for column, row in blocks)
    absent = sum(file.get_tag_item(name, "TIFF", bidx=plane) is None for name, plane in product(names, planes))
    return absent * block_h * block_w
