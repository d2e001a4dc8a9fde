"""Rows of an image as the store wants them: uint8, bands last, and where there is no image at all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from components.common.data.datasets import ImageInfo
from components.common.readers.rasters import Mask, RasterFile

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
"""Pixel types that an image may have."""


def image_rows(file: RasterFile, info: ImageInfo, rows: slice) -> tuple[npt.NDArray[np.uint8], Mask | None]:
    """Rows of the image, `[h, W, C]`, and where they are missing (None: nowhere).

    Pixels of 8 bits are taken as they are. Others are mapped linearly, `info.range` to 0..255, and cut there.
    """
    missing_hW: Mask | None = file.missing(rows)
    if file.dtype == "uint8":
        image_hWC = np.empty((rows.stop - rows.start, file.grid.width_px, file.bands), np.uint8)
        file.read(rows, out_BhW=np.moveaxis(image_hWC, -1, 0))
        return image_hWC, missing_hW
    values_BhW = file.read(rows).astype(np.float32)
    holes_hW: Mask = np.logical_or.reduce(~np.isfinite(values_BhW))
    if holes_hW.any():
        values_BhW[:, holes_hW] = info.range[0]
        missing_hW = holes_hW if missing_hW is None else missing_hW | holes_hW
    low, high = info.range
    values_BhW -= np.float32(low)
    values_BhW *= np.float32(255 / (high - low))
    return np.moveaxis(np.rint(values_BhW).clip(0, 255).astype(np.uint8), 0, -1), missing_hW
