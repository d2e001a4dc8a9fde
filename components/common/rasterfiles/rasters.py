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
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from components.common.errors import DataError
from components.common.rasterfiles.formats import GDAL_ERRORS, SETTINGS, format_name, format_of, vrt_sources
from components.common.rasterfiles.headers import Header, header_of

logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # GDAL's messages arrive there, and as exceptions once more

OPAQUE = (1, 255, 65535)
"""Values of an alpha band that mean "not transparent"."""

GDAL_NAMES = {"uint8": "Byte", "uint16": "UInt16", "uint32": "UInt32", "uint64": "UInt64"}
"""Pixel types that GDAL writes in another way than with a capital letter."""

Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

Place = Path | str
"""Where a raster is: a file on disk, or the name of a remote file or of a mosaic, for messages."""


class Rejected(DataError):
    """A layer that cannot be used. `code` is a code of the check's findings; `sentence` names no file."""

    def __init__(self, code: str, sentence: str, path: Place) -> None:
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


class Windows(Protocol):
    """Reads windows of pixels: rasterio's open file, a remote file that is read again after an error, or a mosaic."""

    def read(self, indexes: Any, window: Window, out: Pixels | None = None) -> Pixels:
        """Pixels of one band `[h, w]`, or of a list of bands `[bands, h, w]`; bands are counted from 1."""
        ...

    def read_masks(self, indexes: int, window: Window) -> Pixels:
        """Mask of a band, `[h, w]`; 0 hides a pixel."""
        ...


class RasterFile:
    """A file open for reading windows of it; made by `open_raster` and `open_source`."""

    def __init__(self, path: Place, header: Header, dataset: Windows, notes: Sequence[Note] = ()) -> None:
        """Wrap an open file; `notes` are what was noticed when it was opened."""
        self.path = path
        self.header = header
        self._dataset, self._notes = dataset, notes
        self.alpha_px = self.transparent_px = self.opaque_px = 0  # of the alpha band, where it was read

    def notes(self) -> list[Note]:
        """What is worth knowing about the file itself."""
        notes = list(self._notes)
        if self.header.unwritten_share:
            fill = 0 if self.header.nodata[0] is None else self.header.nodata[0]
            share = f"{100 * self.header.unwritten_share:.3g} %"
            sentence = (
                f"{share} of its blocks were never written; they are read as {fill:g}: if they should hold data, write "
                "the file again with gdal_translate"
            )
            notes.append(Note("sparse", sentence))
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
                self.alpha_px += alpha_HW.size
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
                file = RasterFile(path, header_of(dataset, path), dataset, scale_notes(dataset))
            yield file


def scale_notes(dataset: rasterio.DatasetReader) -> list[Note]:
    """A note if the file states a scale or an offset that cannot be used."""
    if all(np.isfinite(dataset.offsets)) and all(np.isfinite(scale) and scale for scale in dataset.scales):
        return []
    sentence = "states a scale of 0, or one that is no number; not applied: set scale and offset in dataset.yaml"
    return [Note("scale-applied", sentence)]


@contextmanager
def one_sentence(path: Place) -> Iterator[None]:
    """Turn what damaged content raises into `Rejected`."""
    try:
        yield
    except (*GDAL_ERRORS, ValueError) as error:  # ValueError: a CRS or a text tag that cannot be decoded
        reason = str(error.__cause__ or error).splitlines()[0].replace(f"{path}: ", "").replace(str(path), "it")
        sentence = f"not a readable {format_name(path)} ({reason.rstrip('.')}); copy or download it again"
        raise Rejected("unreadable", sentence, path) from None


def equal_to(pixels: Pixels, value: float) -> Mask | None:
    """True where pixels, of any shape, have a value; None: their type cannot hold it."""
    if np.isnan(value):
        return np.isnan(pixels) if np.issubdtype(pixels.dtype, np.floating) else None
    with np.errstate(over="ignore", invalid="ignore"):
        if np.issubdtype(pixels.dtype, np.integer):
            limits = np.iinfo(pixels.dtype)
            if not np.isfinite(value) or value != int(value) or not limits.min <= value <= limits.max:
                return None
        return np.asarray(pixels == pixels.dtype.type(value))
