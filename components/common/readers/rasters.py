"""Rasters, read with rasterio: pixels in the file's band order, where they lie, and which of them hold no measurement.

A file that is missing, cut short, of another format than its name says, or not of the expected layout is one
`DataError` that names it and says what to do. The georeference is the file's own or that of a world file beside it.
GDAL itself prints nothing.
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
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from components.common.errors import DataError

logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # GDAL's messages arrive there, and as exceptions once more

DRIVERS = {".tif": "GTiff", ".tiff": "GTiff", ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
"""Format by the end of the name. GDAL would open much more, some of it pointing to other files and servers."""

SETTINGS: dict[str, Any] = {
    "GDAL_CACHEMAX": 64,  # MB, not a share of the machine's memory in every process
    "GTIFF_DIRECT_IO": True,  # uncompressed pixels do not go through that cache
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,  # a cut JPEG is an error, not half grey
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": False,  # the short way through a PNG checks nothing
}

GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""What damaged content raises. The second is GDAL's own, which rasterio lets through on odd keys of a GeoTIFF."""

Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the pixels of a file or of a tile lie."""

    height_px: int
    width_px: int
    transform: Affine | None  # pixel -> map; None: neither the file nor a world file has one
    crs: CRS | None  # None: the file has none (a world file cannot have one)


@dataclass(frozen=True, slots=True)
class Raster:
    """The content of one file."""

    pixels_BHW: Pixels
    missing_HW: Mask | None  # True where no band holds a measurement; None: nothing is marked
    transform: Affine | None
    crs: CRS | None

    @property
    def grid(self) -> Grid:
        """Where the pixels lie."""
        _, height_px, width_px = self.pixels_BHW.shape
        return Grid(height_px, width_px, self.transform, self.crs)


class RasterFile:
    """A file open for reading windows of it; made by `open_raster`."""

    def __init__(self, path: Path, dataset: rasterio.DatasetReader, bands: int) -> None:
        """Wrap an open file of which the first `bands` are wanted."""
        self.path = path
        self.bands = bands
        self.dtype: str = dataset.dtypes[0]
        self.grid = Grid(dataset.height, dataset.width, _transform(dataset), dataset.crs)
        self._dataset = dataset
        self._indexes = list(range(1, bands + 1))
        flags = {flag for band_flags in dataset.mask_flag_enums[:bands] for flag in band_flags}
        self._alpha = bands + 1 if dataset.count > bands else None
        self._has_nodata = MaskFlags.nodata in flags
        self._has_mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags

    @property
    def nodata(self) -> float | None:
        """Value of a pixel without a measurement, if the file names one."""
        return self._dataset.nodata

    def read(self, rows: slice | None = None, columns: slice | None = None, out_BhW: Pixels | None = None) -> Pixels:
        """Pixels `[bands, rows, columns]`; None: all of them.

        Args:
            rows: which rows; within the file.
            columns: which columns; within the file.
            out_BhW: array to read into, in any memory order.

        Raises:
            DataError: the file cannot be read there.
        """
        with _one_sentence(self.path):
            return self._dataset.read(self._indexes, window=self._window(rows, columns), out=out_BhW)

    def missing(self, rows: slice | None = None, columns: slice | None = None) -> Mask | None:
        """True where a pixel is marked as not measured: nodata in all bands, alpha 0, or masked; None: no such marks.

        Raises:
            DataError: the file cannot be read there.
        """
        window = self._window(rows, columns)
        with _one_sentence(self.path):
            if self._alpha is not None:
                return self._dataset.read(self._alpha, window=window) == 0
            if self._has_nodata:
                return np.logical_and.reduce(self._dataset.read_masks(self._indexes, window=window) == 0)
            return self._dataset.read_masks(1, window=window) == 0 if self._has_mask else None

    def _window(self, rows: slice | None, columns: slice | None) -> Window:
        first_row, end_row, _ = (rows or slice(None)).indices(self.grid.height_px)
        first_column, end_column, _ = (columns or slice(None)).indices(self.grid.width_px)
        return Window(first_column, first_row, end_column - first_column, end_row - first_row)


@contextmanager
def open_raster(path: Path, *, bands: int, dtypes: Collection[str], alpha: bool = False) -> Iterator[RasterFile]:
    """Open a file; nothing of its pixels is read yet.

    Args:
        path: a TIFF, JPEG or PNG, by its name.
        bands: how many it must have.
        dtypes: pixel types it may have, by their NumPy names.
        alpha: whether it may have one more, which must be marked as alpha.

    Raises:
        DataError: it is missing, unreadable, or of another layout.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; run the acquire step again")
    driver = DRIVERS.get(path.suffix.lower())
    if driver is None:
        raise DataError(f"{path}: its name ends on {path.suffix!r}; expected {', '.join(DRIVERS)}: convert the file")
    with rasterio.Env(**SETTINGS):
        with _one_sentence(path), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path, driver=driver)
        with dataset:
            with _one_sentence(path):
                _check_layout(path, dataset, bands, dtypes, alpha)
                file = RasterFile(path, dataset, bands)
            yield file


def read_raster(path: Path, *, bands: int, dtypes: Collection[str]) -> Raster:
    """Read a whole file; arguments and errors as with `open_raster`."""
    with open_raster(path, bands=bands, dtypes=dtypes) as file:
        return Raster(file.read(), file.missing(), file.grid.transform, file.grid.crs)


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


def _transform(dataset: rasterio.DatasetReader) -> Affine | None:
    transform = dataset.transform
    if transform == Affine.identity():
        return None
    if not np.isfinite(transform[:6]).all() or transform.is_degenerate:
        raise ValueError("its georeference gives pixels no size or no place")
    return transform


def _check_layout(
    path: Path, dataset: rasterio.DatasetReader, bands: int, dtypes: Collection[str], alpha: bool
) -> None:
    marked = alpha and dataset.count == bands + 1 and dataset.colorinterp[-1] == ColorInterp.alpha
    if dataset.count != bands and not marked:
        raise DataError(f"{path}: has {dataset.count} bands, expected {bands}; put the {bands}-band file in its place")
    if odd := sorted(set(dataset.dtypes) - set(dtypes)):
        raise DataError(f"{path}: its pixels are {odd[0]}, expected {' or '.join(dtypes)}; convert the file")
    if dataset.driver == "GTiff":
        _check_blocks(path, dataset)


def _check_blocks(path: Path, dataset: rasterio.DatasetReader) -> None:
    """Refuse absent blocks, which GDAL reads as zeros, and blocks beyond the end of the file, which it may overlook."""
    block_h, block_w = dataset.block_shapes[0]
    blocks = product(range(ceil(dataset.width / block_w)), range(ceil(dataset.height / block_h)))
    planes = range(1, dataset.count + 1) if dataset.interleaving == Interleaving.band else (1,)
    last, where = -1, ("", 0)
    for (column, row), plane in product(blocks, planes):
        offset = dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=plane)
        if offset is None and dataset.nodata is None:
            raise DataError(
                f"{path}: some blocks were never written; the file is incomplete, copy or download it again"
            )
        if offset is not None and int(offset) > last:
            last, where = int(offset), (f"BLOCK_SIZE_{column}_{row}", plane)
    length = dataset.get_tag_item(where[0], "TIFF", bidx=where[1]) if last >= 0 else None
    lacking = last + int(length or 0) - path.stat().st_size
    if lacking > 0:
        raise ValueError(f"{lacking} bytes are missing at its end")


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    try:
        yield
    except (*GDAL_ERRORS, ValueError) as error:  # ValueError: a CRS or a text tag that cannot be decoded
        reason = str(error.__cause__ or error).splitlines()[0].removeprefix(f"{path}: ").rstrip(".")
        name = {"GTiff": "TIFF"}.get(driver := DRIVERS[path.suffix.lower()], driver)
        raise DataError(f"{path}: not a readable {name} ({reason}); copy or download it again") from None
