"""A raster of a tile, row by row on the grid of the tile's image: as it is, padded or cut at an edge, or warped.

What a layer does not cover is never invented: heights of padded edges repeat the edge, everything else is missing.
`Layer` gives pixels as the file holds them; `images.py`, `heights.py` and `labels.py` give them their meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

from components.common.errors import reason
from components.common.readers.formats import GDAL_ERRORS
from components.common.readers.grids import Fit, Grid, rim, to_layer
from components.common.readers.rasters import Mask, Pixels, RasterFile, Rejected

NO_CRS = CRS.from_epsg(3857)
"""Stands for a CRS that no file names: any will do when both sides have the same."""

MARGIN_PX = 3
"""Pixels of a layer read around those under a band of the image, in addition to the reach of the bilinear weights."""

MOST_PX = 16_000_000
"""Pixels of a layer warped at once; beyond it a band of rows is halved."""

WARP_TOLERANCE_PX = 0.01
"""How far GDAL's warper may approximate a position."""

BAND_PX = 400_000
"""About so many pixels go through at once: few enough for the processor's cache, enough to make calls cheap."""

BAND_ROWS = 64
"""At least so many rows go through at once, however wide the tile: files may be packed in squares of pixels."""

Heights = npt.NDArray[np.float32]
Palette = dict[int, tuple[int, int, int, int]]
Convert = Callable[[Pixels, Mask | None, int, int], Heights]
"""Pixels `[H, W]`, where they are missing, and the row and column of the file at which they start -> heights."""


@dataclass(frozen=True, slots=True)
class Bands:
    """Which bands of a file are read, and which of their values mean "missing"."""

    numbers: tuple[int, ...]  # from 1
    nodata: tuple[tuple[float | None, ...], ...]  # missing is where all bands have one of these; None: has no say
    alpha: bool  # whether an alpha band in addition hides pixels
    palette: Palette | None  # of the only band: pixel -> RGBA, 0 = missing


def pick(
    file: RasterFile,
    numbers: tuple[int, ...] | None,
    expected: int,
    nodata: Sequence[Any] | None,
    example: str,
    fewer: str,
    *,
    alpha: bool = True,
) -> Bands:
    """Choose the bands to read.

    Args:
        file: the file.
        numbers: their numbers in dataset.yaml, from 1; None: all but an alpha band.
        expected: how many there must be; one that has a palette stands for three or four.
        nodata: values in dataset.yaml that mean "missing", instead of the value, colour or palette entry that the file
            states; None: as the file states.
        example: a key of dataset.yaml that picks bands, for the message about a file that has more.
        fewer: what to do about a file that has fewer.
        alpha: whether an alpha band that is not picked hides pixels.

    Raises:
        Rejected: the file has too few bands, or more than are expected.
    """
    header = file.header
    count = f"{header.bands} band{'s' * (header.bands != 1)}"
    all_but_alpha = tuple(n for n in range(1, header.bands + 1) if n != header.alpha or header.bands == expected)
    picked = all_but_alpha if numbers is None else numbers
    if max(picked) > header.bands:
        sentence = f"has {count}, but dataset.yaml asks for band {max(picked)}; correct its `bands`"
        raise Rejected("band-count", sentence, file.path)
    if len(picked) != expected and not (len(picked) == 1 and header.palette and expected in (3, 4)):
        remedy = f"pick its bands in dataset.yaml, for example {example}" if len(picked) > expected else fewer
        sentence = f"has {count}, expected {expected}; put the right file in its place, or {remedy}"
        if numbers is not None:
            sentence = f"dataset.yaml picks {len(picked)} of its {count}, expected {expected}; correct its `bands`"
        raise Rejected("band-count", sentence, file.path)
    stated, palette = tuple(header.nodata[n - 1] for n in picked), header.palette
    marks: tuple[tuple[float | None, ...], ...] = () if stated == (None,) * len(stated) else (stated,)
    if nodata is not None:
        marks = tuple((float(value),) * len(picked) for value in nodata)
        palette = palette and {index: (*colour[:3], 255) for index, colour in palette.items()}
    return Bands(picked, marks, alpha and header.alpha not in (None, *picked), palette)


class Layer:
    """A raster on the grid of its tile's image."""

    def __init__(self, file: RasterFile, bands: Bands, place: Fit) -> None:
        """Wrap an open file."""
        self.file = file
        self.bands = bands
        self.fit = place

    def pixels(self, rows: slice, out: Pixels | None = None) -> tuple[Pixels, Mask | None]:
        """Pixels of rows of the image, `[B, h, W]`, and where there are none (None: nowhere).

        A warped layer gives the nearest pixels. Where there are none, pixels have any value.

        Args:
            rows: rows of the image.
            out: array `[B, h, W]` to read into; used only if the layer has exactly the image's size.
        """
        if self.fit.offset is None:
            return self._warped_pixels(rows)
        row_of_h, column_of_W = self._nearest(rows)
        inside = slice(row_of_h[0], row_of_h[-1] + 1), slice(column_of_W[0], column_of_W[-1] + 1)
        exact = self._is_exact(inside)
        pixels_BHW, missing_HW = self._read(*inside, out if exact else None)
        if exact:
            return pixels_BHW, missing_HW
        place = np.ix_(row_of_h - inside[0].start, column_of_W - inside[1].start)
        outside_HW = ~np.logical_and.outer(*self._covered(rows))
        missing_HW = outside_HW if missing_HW is None else missing_HW[place] | outside_HW
        return np.stack([band_HW[place] for band_HW in pixels_BHW]), missing_HW

    def heights(self, rows: slice, convert: Convert) -> Heights:
        """Heights of rows of the image, `[h, W]`, metres, NaN = not measured; warped bilinearly between measured ones.

        Args:
            rows: rows of the image.
            convert: turns pixels of the first band into heights.
        """
        if self.fit.offset is None:
            return self._warped_heights(rows, convert)
        row_of_h, column_of_W = self._nearest(rows)
        inside = slice(row_of_h[0], row_of_h[-1] + 1), slice(column_of_W[0], column_of_W[-1] + 1)
        pixels_BHW, missing_HW = self._read(*inside)
        metres_HW = convert(pixels_BHW[0], missing_HW, inside[0].start, inside[1].start)
        if self._is_exact(inside):
            return metres_HW
        metres_hW = metres_HW[np.ix_(row_of_h - inside[0].start, column_of_W - inside[1].start)]
        if not self.fit.extended:
            metres_hW[~np.logical_and.outer(*self._covered(rows))] = np.nan
        return metres_hW

    def _read(self, rows: slice, columns: slice, out: Pixels | None = None) -> tuple[Pixels, Mask | None]:
        pixels_BHW = self.file.read(self.bands.numbers, rows, columns, out)
        missing_HW = self.file.hidden(self.bands.numbers, rows, columns, alpha=self.bands.alpha)
        for values in self.bands.nodata:
            pairs = [(band, value) for band, value in zip(pixels_BHW, values, strict=True) if value is not None]
            marks = [mark for band_HW, value in pairs if (mark := equal_to(band_HW, value)) is not None]
            if len(marks) < len(pairs):
                continue
            marked_HW = np.logical_and.reduce(marks)
            if missing_HW is not None:
                missing_HW |= marked_HW
            elif marked_HW.any():
                missing_HW = marked_HW
        return pixels_BHW, missing_HW

    def _is_exact(self, inside: tuple[slice, slice]) -> bool:
        """Whether the file has the image's rows and columns, no more and no fewer."""
        image, layer = self.fit.image, self.fit.layer
        return (
            self.fit.offset == (0, 0)
            and (image.height_px, image.width_px) == (layer.height_px, layer.width_px)
            and inside[1] == slice(0, image.width_px)
        )

    def _shifted(self, rows: slice) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Rows and columns of the file that lie under those of the image, or would if it were larger."""
        assert self.fit.offset is not None
        down, right = self.fit.offset
        return np.arange(rows.start, rows.stop) + down, np.arange(self.fit.image.width_px) + right

    def _nearest(self, rows: slice) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        row_of_h, column_of_W = self._shifted(rows)
        return row_of_h.clip(0, self.fit.layer.height_px - 1), column_of_W.clip(0, self.fit.layer.width_px - 1)

    def _covered(self, rows: slice) -> tuple[Mask, Mask]:
        row_of_h, column_of_W = self._shifted(rows)
        covers = [(row_of_h, self.fit.layer.height_px), (column_of_W, self.fit.layer.width_px)]
        return tuple((index >= 0) & (index < size) for index, size in covers)  # type: ignore[return-value]

    def _warped_heights(self, rows: slice, convert: Convert) -> Heights:
        parts = []
        for part in self._warpable(rows):
            out_hW = np.full((part.stop - part.start, self.fit.image.width_px), np.nan, np.float32)
            if (window := self._under(part)) is not None:
                pixels_BHW, missing_HW = self._read(*window)
                source_HW = convert(pixels_BHW[0], missing_HW, window[0].start, window[1].start)
                self._reproject(source_HW, out_hW, window, part, Resampling.bilinear, np.nan)
            parts.append(out_hW)
        return np.concatenate(parts)

    def _warped_pixels(self, rows: slice) -> tuple[Pixels, Mask | None]:
        pictures, holes = [], []
        for part in self._warpable(rows):
            size = part.stop - part.start, self.fit.image.width_px
            out_BhW = np.zeros((len(self.bands.numbers), *size), self.file.header.dtypes[self.bands.numbers[0] - 1])
            covered_hW = np.zeros(size, np.uint8)
            if (window := self._under(part)) is not None:
                pixels_BHW, missing_HW = self._read(*window)
                valid_HW = np.ones(pixels_BHW.shape[1:], np.uint8) if missing_HW is None else (~missing_HW).astype("u1")
                for source_HW, out_hW in [*zip(pixels_BHW, out_BhW, strict=True), (valid_HW, covered_hW)]:
                    self._reproject(source_HW, out_hW, window, part, Resampling.nearest, None)
            pictures.append(out_BhW)
            holes.append(covered_hW == 0)
        return np.concatenate(pictures, axis=1), np.concatenate(holes)

    def _warpable(self, rows: slice) -> list[slice]:
        """The rows in parts, under each of which no more of the file lies than may be held."""
        window, height = self._under(rows), rows.stop - rows.start
        if window is None or height == 1 or _area(window) <= MOST_PX:
            return [rows]
        middle = rows.start + height // 2
        return self._warpable(slice(rows.start, middle)) + self._warpable(slice(middle, rows.stop))

    def _under(self, rows: slice) -> tuple[slice, slice] | None:
        """Rows and columns of the file that lie under rows of the image; None: it covers none of them."""
        image, layer = self.fit.image, self.fit.layer
        column, row = to_layer(image, layer, *rim(rows, image.width_px))
        if not (np.isfinite(row).all() and np.isfinite(column).all()):
            sentence = "cannot be brought into the image's reference system; check data.crs"
            raise Rejected("grid-mismatch", sentence, self.file.path)
        window = _slice(row, rows.stop - rows.start, layer.height_px), _slice(column, image.width_px, layer.width_px)
        return window if _area(window) else None

    def _reproject(
        self,
        source_HW: Pixels,
        out_hW: Pixels,
        window: tuple[slice, slice],
        rows: slice,
        how: Resampling,
        hole: float | None,
    ) -> None:
        image, layer = self.fit.image, self.fit.layer
        assert image.transform is not None and layer.transform is not None
        image_crs = image.crs or layer.crs or NO_CRS
        try:
            reproject(
                source_HW,
                out_hW,
                src_transform=layer.transform @ Affine.translation(window[1].start, window[0].start),
                src_crs=layer.crs or image_crs,
                dst_transform=image.transform @ Affine.translation(0, rows.start),
                dst_crs=image_crs,
                resampling=how,
                src_nodata=hole,
                dst_nodata=hole,
                init_dest_nodata=False,
                tolerance=WARP_TOLERANCE_PX,
            )
        except GDAL_ERRORS as error:
            sentence = f"cannot be warped to the image's grid ({reason(error)}); check data.crs"
            raise Rejected("grid-mismatch", sentence, self.file.path) from None


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


def bands_of(grid: Grid, multiple: int = 1) -> list[slice]:
    """All rows of a grid in bands of about `BAND_PX` pixels, each but the last a multiple of so many rows."""
    step = multiple * ceil(max(BAND_ROWS, BAND_PX // grid.width_px) / multiple)
    return [slice(first, min(first + step, grid.height_px)) for first in range(0, grid.height_px, step)]


def _slice(places: npt.NDArray[np.float64], image_px: int, size: int) -> slice:
    """The rows or columns of a file around these places, at which so many of the image lie."""
    first, last = float(places.min()), float(places.max())
    margin = MARGIN_PX + 2 * ceil((last - first) / image_px)
    start = min(max(floor(first) - margin, 0), size)
    return slice(start, max(start, min(ceil(last) + margin, size)))


def _area(window: tuple[slice, slice]) -> int:
    rows, columns = window
    return (rows.stop - rows.start) * (columns.stop - columns.start)
