"""A layer on a grid of its own, brought to the grid of its image by GDAL's warper.

GDAL interpolates positions along a row of pixels, within an eighth of a pixel; for aerial images between two projected
reference systems the difference is about 0.0002 px. A layer with smaller pixels than the image is filtered. GDAL would
derive the width of the filter from the rectangle that is asked for; here it is that of the complete image.
"""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import numpy.typing as npt
from rasterio import Affine
from rasterio.enums import Resampling
from rasterio.warp import reproject

from components.common.errors import reason
from components.common.rasterfiles.formats import GDAL_ERRORS
from components.common.rasterfiles.grids import Fit, Grid, rim, to_layer
from components.common.rasterfiles.position import NO_CRS
from components.common.rasterfiles.rasters import Pixels, Place, Rejected

MARGIN_PX = 3
"""Pixels of a layer read around those under a rectangle of the image, in addition to the reach of the filter."""

MOST_PX = 16_000_000
"""Pixels of a layer warped at once; beyond it a rectangle is halved."""

SCALE_SPAN_PX = 16
"""Distance in the middle of the image over which the ratio of the pixel sizes is measured."""

ROUNDED = 0.05
"""A ratio of pixel sizes this close to a whole number becomes that number; the filter is exact there."""

CHECK = "the reference systems of both files with gdalinfo, and data.crs"
"""What an error about a warp asks the user to check."""

Rectangle = tuple[slice, slice]
"""Rows and columns."""


class Warp:
    """Brings pixels of one layer to the grid of its image."""

    def __init__(self, place: Fit, path: Place) -> None:
        """Prepare.

        Args:
            place: the grids of image and layer.
            path: the layer's file, for errors.
        """
        self.image, self.layer, self.path = place.image, place.layer, path
        self._options = _filter_scale(place.image, place.layer)

    def parts(self, rows: slice, columns: slice) -> list[tuple[slice, Rectangle | None]]:
        """Rows of the image in parts, each with the rectangle of the file that lies under it; None: there is none.

        No rectangle has more than about `MOST_PX` pixels.

        Raises:
            Rejected: no transformation leads from the image to the layer.
        """
        window, height = self._under(rows, columns), rows.stop - rows.start
        if window is None or height == 1 or _area(window) <= MOST_PX:
            return [(rows, window)]
        middle = rows.start + height // 2
        return self.parts(slice(rows.start, middle), columns) + self.parts(slice(middle, rows.stop), columns)

    def fill(
        self, out_hw: Pixels, at: Rectangle, source_HW: Pixels, window: Rectangle, how: Resampling, hole: float | None
    ) -> None:
        """Write pixels of the image that the layer covers; others stay as they are.

        Args:
            out_hw: to write to, `[h, w]`.
            at: rows and columns of the image that it covers.
            source_HW: pixels of the layer, `[H, W]`.
            window: rows and columns of the layer that they cover.
            how: how pixels are interpolated.
            hole: value that means "missing", not mixed with others; None: there is none.

        Raises:
            Rejected: GDAL cannot do it.
        """
        assert self.image.transform is not None and self.layer.transform is not None
        image_crs = self.image.crs or self.layer.crs or NO_CRS
        try:
            reproject(
                source_HW,
                out_hw,
                src_transform=self.layer.transform @ Affine.translation(window[1].start, window[0].start),
                src_crs=self.layer.crs or image_crs,
                dst_transform=self.image.transform @ Affine.translation(at[1].start, at[0].start),
                dst_crs=image_crs,
                resampling=how,
                src_nodata=hole,
                dst_nodata=hole,
                init_dest_nodata=False,
                **self._options,
            )
        except GDAL_ERRORS as error:
            sentence = f"cannot be warped to the image's grid ({reason(error)}); check {CHECK}"
            raise Rejected("grid-mismatch", sentence, self.path) from None

    def _under(self, rows: slice, columns: slice) -> Rectangle | None:
        """Rows and columns of the file that lie under a rectangle of the image; None: it covers none of it."""
        column, row = to_layer(self.image, self.layer, *rim(rows, columns))
        if not (np.isfinite(row).all() and np.isfinite(column).all()):
            sentence = f"cannot be brought into the image's reference system; check {CHECK}"
            raise Rejected("grid-mismatch", sentence, self.path)
        window = (
            _around(row, rows.stop - rows.start, self.layer.height_px),
            _around(column, columns.stop - columns.start, self.layer.width_px),
        )
        return window if _area(window) else None


def _filter_scale(image: Grid, layer: Grid) -> dict[str, float]:
    """GDAL's options for the width of its filter: pixels of the image per pixel of the layer, at most 1."""
    x, y = image.width_px / 2, image.height_px / 2
    right, down = np.array([0, 1, 0]) * SCALE_SPAN_PX, np.array([0, 0, 1]) * SCALE_SPAN_PX
    places = to_layer(image, layer, x + right, y + down)
    ratios = [float(np.hypot(*(place[1:] - place[0]))) / SCALE_SPAN_PX for place in places]
    return {name: 1 / _rounded(ratio) for name, ratio in zip(("XSCALE", "YSCALE"), ratios, strict=True)}


def _rounded(ratio: float) -> float:
    """Pixels of the layer per pixel of the image, at least 1."""
    if not np.isfinite(ratio):
        return 1.0
    return float(max(1, round(ratio) if abs(ratio - round(ratio)) < ROUNDED else ratio))


def _around(places: npt.NDArray[np.float64], image_px: int, size: int) -> slice:
    """The rows or columns of a file around these places `[N]`, at which so many of the image lie."""
    first, last = float(places.min()), float(places.max())
    margin = MARGIN_PX + 2 * ceil((last - first) / image_px)
    start = min(max(floor(first) - margin, 0), size)
    return slice(start, max(start, min(ceil(last) + margin, size)))


def _area(window: Rectangle) -> int:
    rows, columns = window
    return (rows.stop - rows.start) * (columns.stop - columns.start)
