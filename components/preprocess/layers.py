"""A raster of a tile, row by row on the grid of the tile's image: as it is, padded at an edge, or warped.

Padding is for a layer that lacks a few pixels; warping, where the settings allow it, for one on another grid, of
another resolution or reference system, or for a mosaic of all tiles. What a layer does not cover is never invented:
heights of padded edges repeat the edge, everything else is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import numpy.typing as npt
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform

from components.common.data.datasets import DsmInfo
from components.common.data.heights import measured
from components.common.errors import DataError
from components.common.readers.grids import GridError, Padding, padding
from components.common.readers.rasters import GDAL_ERRORS, Grid, Mask, Pixels, RasterFile

NO_CRS = CRS.from_epsg(3857)
"""Stands for a reference system that no file names: any will do when both sides have the same."""

MARGIN_PX = 3
"""Pixels of a layer read around those under a band of the image, besides the reach of the bilinear weights."""

MOST_PX = 16_000_000
"""Pixels of a layer warped at once; beyond it a band of rows is halved."""


BAND_PX = 400_000
"""About so many pixels go through at once: few enough for the processor's cache, enough to make calls cheap."""

BAND_ROWS = 64
"""At least so many rows go through at once, however wide the tile: files may be packed in squares of pixels."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a layer lies on the grid of its image."""

    image: Grid
    lacks: Padding | None  # None: elsewhere, so it is warped
    note: str  # what a user should know; empty: lies as it should


def fit(file: RasterFile, image: Grid, name: str, *, max_pad_px: int, warp: bool) -> Fit:
    """Find out how a layer lies on the grid of its image.

    Args:
        file: the layer.
        image: grid of the tile.
        name: of the file in notes.
        max_pad_px: how much it may lack at each edge.
        warp: whether it may be warped.

    Raises:
        DataError: it does not fit, and must not or cannot be warped.
    """
    try:
        lacks = padding(file.path, file.grid, image, max_pad_px)
        return Fit(image, lacks, f"{name}: smaller than the image; padded {lacks}" if lacks else "")
    except GridError as error:
        if not warp:
            raise DataError(
                f"{error}: check that both files are of one tile and their world files right (only own data are "
                "warped, with data.source: folder)"
            ) from None
        if file.grid.transform is None or image.transform is None:
            raise DataError(
                f"{error}: without a georeference of both files it cannot be warped; add world files or cut it to size"
            ) from None
        reason = str(error).removeprefix(f"{file.path}: ")
        return Fit(image, None, f"{name}: {reason}; warped onto the image's grid")


class Layer:
    """A raster on the grid of its tile's image."""

    def __init__(self, file: RasterFile, place: Fit, unit_m: float = 1.0) -> None:
        """Wrap a file; `unit_m` is how many metres its unit has, if it holds heights."""
        self._file = file
        self._fit = place
        self._unit_m = unit_m

    def metres(self, rows: slice) -> npt.NDArray[np.float32]:
        """Heights of rows of the image, `[h, W]`, NaN = not measured; warped bilinearly between measured ones."""
        if self._fit.lacks is None:
            return self._warped_metres(rows)
        row_of_h, column_of_W = self._nearest(rows)
        inside = slice(row_of_h[0], row_of_h[-1] + 1)
        metres_HW = measured(self._file.read(inside)[0], self._file.missing(inside), self._unit_m)
        return metres_HW[np.ix_(row_of_h - inside.start, column_of_W)] if self._fit.lacks else metres_HW

    def picture(self, rows: slice) -> tuple[Pixels, Mask | None]:
        """Pixels of rows of the image, `[B, h, W]`, the nearest ones if warped, and where none are (None: nowhere)."""
        if self._fit.lacks is None:
            return self._warped_picture(rows)
        row_of_h, column_of_W = self._nearest(rows)
        inside = slice(row_of_h[0], row_of_h[-1] + 1)
        pixels_BHW, missing_HW = self._file.read(inside), self._file.missing(inside)
        if not self._fit.lacks:
            return pixels_BHW, missing_HW
        place = np.ix_(row_of_h - inside.start, column_of_W)
        outside_HW = ~np.logical_and.outer(*self._covered(rows))
        missing_HW = outside_HW if missing_HW is None else missing_HW[place] | outside_HW
        return np.stack([band_HW[place] for band_HW in pixels_BHW]), missing_HW

    def _shifted(self, rows: slice) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Rows and columns of the file that lie under those of the image, or would if it were larger."""
        assert self._fit.lacks is not None
        columns = np.arange(self._fit.image.width_px) - self._fit.lacks.left
        return np.arange(rows.start, rows.stop) - self._fit.lacks.top, columns

    def _nearest(self, rows: slice) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        row_of_h, column_of_W = self._shifted(rows)
        return row_of_h.clip(0, self._file.grid.height_px - 1), column_of_W.clip(0, self._file.grid.width_px - 1)

    def _covered(self, rows: slice) -> tuple[Mask, Mask]:
        row_of_h, column_of_W = self._shifted(rows)
        covers = [(row_of_h, self._file.grid.height_px), (column_of_W, self._file.grid.width_px)]
        return tuple((index >= 0) & (index < size) for index, size in covers)  # type: ignore[return-value]

    def _warped_metres(self, rows: slice) -> npt.NDArray[np.float32]:
        parts = []
        for part in self._warpable(rows):
            out_hW = np.full((part.stop - part.start, self._fit.image.width_px), np.nan, np.float32)
            if (window := self._under(part)) is not None:
                source_HW = measured(self._file.read(*window)[0], self._file.missing(*window), self._unit_m)
                self._reproject(source_HW, out_hW, window, part, Resampling.bilinear, np.nan)
            parts.append(out_hW)
        return np.concatenate(parts)

    def _warped_picture(self, rows: slice) -> tuple[Pixels, Mask | None]:
        pictures, holes = [], []
        for part in self._warpable(rows):
            size = part.stop - part.start, self._fit.image.width_px
            out_BhW = np.zeros((self._file.bands, *size), self._file.dtype)
            covered_hW = np.zeros(size, np.uint8)
            if (window := self._under(part)) is not None:
                pixels_BHW, missing_HW = self._file.read(*window), self._file.missing(*window)
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
        image, layer = self._fit.image, self._file.grid
        assert image.transform is not None and layer.transform is not None
        x, y = _rim(rows, image.width_px)
        try:
            east, north = transform(*self._systems()[::-1], *(image.transform @ (x, y)))
        except GDAL_ERRORS:  # no way leads from the one to the other
            east = north = [np.nan]
        column, row = ~layer.transform @ (np.array(east), np.array(north))
        if not (np.isfinite(row).all() and np.isfinite(column).all()):
            raise DataError(f"{self._file.path}: cannot be brought into the image's reference system; check data.crs")
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
        image, layer = self._fit.image, self._file.grid
        source_crs, image_crs = self._systems()
        try:
            reproject(
                source_HW,
                out_hW,
                src_transform=layer.transform @ Affine.translation(window[1].start, window[0].start),
                src_crs=source_crs,
                dst_transform=image.transform @ Affine.translation(0, rows.start),
                dst_crs=image_crs,
                resampling=how,
                src_nodata=hole,
                dst_nodata=hole,
                init_dest_nodata=False,
            )
        except GDAL_ERRORS as error:
            raise DataError(f"{self._file.path}: cannot be warped onto the image ({error}); check data.crs") from None

    def _systems(self) -> tuple[CRS, CRS]:
        """Reference systems of the file and of the image; a world file names none, so it has the image's."""
        image_crs = self._fit.image.crs or self._file.grid.crs or NO_CRS
        return self._file.grid.crs or image_crs, image_crs


def bands_of(grid: Grid, multiple: int = 1) -> list[slice]:
    """All rows of a grid in bands of about `BAND_PX` pixels, each but the last a multiple of so many rows."""
    step = multiple * ceil(max(BAND_ROWS, BAND_PX // grid.width_px) / multiple)
    return [slice(first, min(first + step, grid.height_px)) for first in range(0, grid.height_px, step)]


def dsm_dtypes(dsm: DsmInfo, own: bool) -> tuple[str, ...]:
    """Pixel types that heights may have; whole numbers in own data, and 8 bits only above the ground."""
    whole = ("int16", "uint16", "int32") if own else ()
    return ("float32", "float64", *whole, *(("uint8",) if dsm.relative_to == "ground" else ()))


def _rim(rows: slice, width_px: int, steps: int = 33) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Points all around some rows of an image, pixels."""
    along, down = np.linspace(0, width_px, steps), np.linspace(rows.start, rows.stop, steps)
    x = np.concatenate([along, along, np.zeros(steps), np.full(steps, width_px)])
    y = np.concatenate([np.full(steps, rows.start), np.full(steps, rows.stop), down, down])
    return x, y


def _slice(places: npt.NDArray[np.float64], image_px: int, size: int) -> slice:
    """The rows or columns of a file around these places, at which so many of the image lie."""
    first, last = float(places.min()), float(places.max())
    margin = MARGIN_PX + 2 * ceil((last - first) / image_px)
    start = min(max(floor(first) - margin, 0), size)
    return slice(start, max(start, min(ceil(last) + margin, size)))


def _area(window: tuple[slice, slice]) -> int:
    rows, columns = window
    return (rows.stop - rows.start) * (columns.stop - columns.start)
