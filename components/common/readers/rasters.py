"""One raster file, opened with rasterio: its header, its pixels in windows, and which pixels it marks as missing.

Nothing of what the file states about itself is interpreted here; `layers.py` and the modules per kind do that. A file
that is missing, truncated, or of another format than its name says is one `Rejected` error. GDAL itself prints nothing.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
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
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from components.common.errors import DataError
from components.common.readers.formats import GDAL_ERRORS, SETTINGS, format_of, vrt_sources

logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # GDAL's messages arrive there, and as exceptions once more

MAX_SIDE_PX = 1_000_000
"""Rows or columns of a raster; a larger size comes from a damaged header."""

OPAQUE = (1, 255, 65535)
"""Values of an alpha band that mean "not transparent"."""

GDAL_NAMES = {"uint8": "Byte", "uint16": "UInt16", "uint32": "UInt32", "uint64": "UInt64"}
"""Pixel types that GDAL writes in another way than with a capital letter."""

Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


class Rejected(DataError):
    """A layer that cannot be used. `code` is a code of the check's findings; `sentence` names no file."""

    def __init__(self, code: str, sentence: str, path: Path) -> None:
        super().__init__(f"{path}: {sentence}")
        self.code, self.sentence, self.path = code, sentence, path

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets the error travel from a worker process."""
        return Rejected, (self.code, self.sentence, self.path)


@dataclass(frozen=True, slots=True)
class Note:
    """What the reader did with a layer, or noticed. `code` is a code of the check's findings."""

    code: str
    sentence: str  # names neither tile nor file


@dataclass(frozen=True, slots=True)
class Header:
    """What a file states about itself; tuples have one entry per band."""

    driver: str
    width_px: int
    height_px: int
    dtypes: tuple[str, ...]
    transform: Affine | None  # pixel -> map; None: the file has none (world files are not looked at here)
    crs: CRS | None
    gcps: tuple[GroundControlPoint, ...]
    gcps_crs: CRS | None
    nodata: tuple[float | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    units: tuple[str | None, ...]
    colours: tuple[str, ...]  # red, green, blue, gray, palette, alpha, undefined...
    palette: dict[int, tuple[int, int, int, int]] | None  # of a single band: pixel -> RGBA
    masks: tuple[int | None, ...]  # the band whose mask (internal, or a .msk file) hides a band's pixels; None: none
    unwritten_share: float  # of the blocks of a sparse TIFF, 0..1; they read as nodata, or 0

    @property
    def bands(self) -> int:
        """Number of bands."""
        return len(self.dtypes)

    @property
    def alpha(self) -> int | None:
        """Number of the alpha band, from 1; None: the file has none."""
        return self.colours.index("alpha") + 1 if "alpha" in self.colours else None


class RasterFile:
    """A file open for reading windows of it; made by `open_raster`."""

    def __init__(self, path: Path, dataset: rasterio.DatasetReader) -> None:
        """Wrap an open file."""
        self.path = path
        self.header = _header(path, dataset)
        self._dataset = dataset
        self.transparent_px = self.opaque_px = 0  # according to the alpha band, where it was read

    def notes(self) -> list[Note]:
        """What is worth knowing about the file itself."""
        notes = []
        if self.header.unwritten_share:
            fill = 0 if self.header.nodata[0] is None else self.header.nodata[0]
            share = f"{100 * self.header.unwritten_share:.3g} %"
            sentence = (
                f"{share} of its blocks were never written; they are read as {fill:g}: if they should hold data, write "
                "the file again with gdal_translate"
            )
            notes.append(Note("sparse", sentence))
        if (self._dataset.scales, self._dataset.offsets) != (self.header.scales, self.header.offsets):
            sentence = (
                "states a scale of 0, or one that is no number; not applied: set scale and offset in dataset.yaml"
            )
            notes.append(Note("scale-applied", sentence))
        return notes

    def require_dtype(self, numbers: Sequence[int], dtypes: Sequence[str]) -> None:
        """Refuse other types of pixels, and bands of different types.

        Args:
            numbers: the bands that are read, from 1.
            dtypes: types that are expected.

        Raises:
            Rejected: a band has another type.
        """
        found = sorted({self.header.dtypes[n - 1] for n in numbers})
        odd = [dtype for dtype in found if dtype not in dtypes]
        if odd:
            wanted = "float32" if "float32" in dtypes else dtypes[0]
            what = f"its pixels are {odd[0]}, expected {' or '.join(dtypes)}"
        elif len(found) > 1:
            wanted = np.result_type(*found).name
            what = f"its bands have different pixel types, {' and '.join(found)}"
        else:
            return
        options = GDAL_NAMES.get(wanted, wanted.capitalize())
        options += " -scale 0 65535 0 255" if (odd, wanted) == (["uint16"], "uint8") else ""
        sentence = f"{what}; convert it: gdal_translate -ot {options} OLD.tif NEW.tif"
        raise Rejected("pixel-type", sentence, self.path)

    def read(
        self, bands: Sequence[int], rows: slice | None = None, columns: slice | None = None, out: Pixels | None = None
    ) -> Pixels:
        """Pixels `[bands, rows, columns]` as the file holds them.

        Args:
            bands: which bands, counted from 1.
            rows: which rows, within the file; None: all.
            columns: which columns, within the file; None: all.
            out: array `[bands, rows, columns]` to read into, in any memory order.

        Raises:
            Rejected: the file cannot be read there.
        """
        with one_sentence(self.path):
            return self._dataset.read(list(bands), window=self._window(rows, columns), out=out)

    def hidden(
        self, numbers: Sequence[int], rows: slice | None = None, columns: slice | None = None, *, alpha: bool = True
    ) -> Mask | None:
        """True where a mask or, unless `alpha` is false, the alpha band hides a pixel; None: the file has neither.

        Args:
            numbers: the bands that are read, from 1; any of them may have a mask.
            rows: which rows, within the file; None: all.
            columns: which columns, within the file; None: all.
            alpha: whether to look at the alpha band.

        Raises:
            Rejected: the file cannot be read there.
        """
        window, holes = self._window(rows, columns), []
        with one_sentence(self.path):
            for number in sorted({mask for n in numbers if (mask := self.header.masks[n - 1]) is not None}):
                holes.append(self._dataset.read_masks(number, window=window) == 0)
            if alpha and self.header.alpha is not None:
                alpha_HW = self._dataset.read(self.header.alpha, window=window)
                holes.append(alpha_HW == 0)
                self.transparent_px += int(np.count_nonzero(holes[-1]))
                self.opaque_px += sum(int(np.count_nonzero(alpha_HW == value)) for value in OPAQUE)
        return np.logical_or.reduce(holes) if holes else None

    def _window(self, rows: slice | None, columns: slice | None) -> Window:
        first_row, end_row, _ = (rows or slice(None)).indices(self.header.height_px)
        first_column, end_column, _ = (columns or slice(None)).indices(self.header.width_px)
        return Window(first_column, first_row, end_column - first_column, end_row - first_row)


@contextmanager
def open_raster(path: Path, root: Path) -> Iterator[RasterFile]:
    """Open a file; no pixel is read yet.

    Args:
        path: a file of a format that `formats.py` lists, by its name.
        root: folder that a VRT must not leave.

    Raises:
        Rejected: the file is missing, unreadable, or of another format.
    """
    if not path.is_file():
        raise Rejected("unreadable", "no such file; run the acquire step again", path)
    try:
        driver = format_of(path).driver
        if driver == "VRT":
            vrt_sources(path, root)
    except DataError as error:
        raise Rejected("unreadable", str(error).removeprefix(f"{path}: "), path) from None
    internal = {"GEOREF_SOURCES": "PAM,INTERNAL"} if driver == "GTiff" else {}
    with rasterio.Env(**SETTINGS):
        with one_sentence(path), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path, driver=driver, **internal)
        with dataset:
            with one_sentence(path):
                file = RasterFile(path, dataset)
            yield file


@contextmanager
def one_sentence(path: Path) -> Iterator[None]:
    """Turn what damaged content raises into `Rejected`."""
    try:
        yield
    except (*GDAL_ERRORS, ValueError) as error:  # ValueError: a CRS or a text tag that cannot be decoded
        reason = str(error.__cause__ or error).splitlines()[0].replace(f"{path}: ", "").replace(str(path), "it")
        sentence = f"not a readable {format_of(path).name} ({reason.rstrip('.')}); copy or download it again"
        raise Rejected("unreadable", sentence, path) from None


def _header(path: Path, dataset: rasterio.DatasetReader) -> Header:
    if max(dataset.width, dataset.height) > MAX_SIDE_PX:
        raise ValueError(f"its header declares {dataset.width} x {dataset.height} px")
    transform = dataset.transform
    if not np.isfinite(transform[:6]).all() or transform.is_degenerate:
        raise ValueError("its georeference gives pixels no size or no position")
    gcps, gcps_crs = dataset.gcps
    paletted = dataset.count <= 2 and dataset.colorinterp[0] == ColorInterp.palette
    return Header(
        driver=dataset.driver,
        width_px=dataset.width,
        height_px=dataset.height,
        dtypes=dataset.dtypes,
        transform=None if transform == Affine.identity() else transform,
        crs=dataset.crs,
        gcps=tuple(gcps),
        gcps_crs=gcps_crs,
        nodata=_nodata(dataset),
        scales=tuple(scale if np.isfinite(scale) and scale else 1.0 for scale in dataset.scales),  # 0: not set
        offsets=tuple(offset if np.isfinite(offset) else 0.0 for offset in dataset.offsets),
        units=tuple(unit or None for unit in dataset.units),
        colours=tuple(colour.name for colour in dataset.colorinterp),
        palette=dataset.colormap(1) if paletted else None,
        masks=tuple(_mask(number, flags) for number, flags in enumerate(dataset.mask_flag_enums, 1)),
        unwritten_share=_unwritten_share(path, dataset) if dataset.driver == "GTiff" else 0.0,
    )


def _mask(number: int, flags: Sequence[MaskFlags]) -> int | None:
    """The band whose mask hides the pixels of a band; a nodata value and an alpha band are no masks here."""
    if {MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha}.intersection(flags):
        return None
    return 1 if MaskFlags.per_dataset in flags else number


def _nodata(dataset: rasterio.DatasetReader) -> tuple[float | None, ...]:
    """Nodata value of each band; a TIFF without one may have a colour of that meaning, as GDAL's NODATA_VALUES."""
    colour = dataset.tags().get("NODATA_VALUES", "").split()
    if {MaskFlags.nodata, MaskFlags.per_dataset} <= set(dataset.mask_flag_enums[0]) and len(colour) == dataset.count:
        return tuple(map(float, colour))
    return tuple(dataset.nodatavals)


def _unwritten_share(path: Path, dataset: rasterio.DatasetReader) -> float:
    """Share of a TIFF's blocks that were never written; refuses blocks beyond the end of the file."""
    block_h, block_w = dataset.block_shapes[0]
    blocks = list(product(range(ceil(dataset.width / block_w)), range(ceil(dataset.height / block_h))))
    planes = range(1, dataset.count + 1) if dataset.interleaving == Interleaving.band else (1,)
    last, where, absent = -1, ("", 0), 0
    for (column, row), plane in product(blocks, planes):
        offset = dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=plane)
        absent += offset is None
        if offset is not None and int(offset) > last:
            last, where = int(offset), (f"BLOCK_SIZE_{column}_{row}", plane)
    length = dataset.get_tag_item(where[0], "TIFF", bidx=where[1]) if last >= 0 else None
    lacking = last + int(length or 0) - path.stat().st_size
    if lacking > 0:
        raise ValueError(f"{lacking} bytes are missing at its end")
    return absent / (len(blocks) * len(planes))
