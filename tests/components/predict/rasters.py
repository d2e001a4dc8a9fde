"""Small rasters on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.crs import CRS

UTM = CRS.from_epsg(32633)
NORTH_UP = Affine(0.05, 0, 369_000, 0, -0.05, 5_806_500)


def image_of(height_px, width_px, seed=0):
    """Random colours, never black."""
    return np.random.default_rng(seed).integers(1, 256, (height_px, width_px, 3)).astype(np.uint8)


def write(path: Path, pixels, transform=NORTH_UP, crs=UTM, **options) -> str:
    pixels_BHW = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    bands, height, width = pixels_BHW.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": pixels_BHW.dtype}
    with rasterio.open(path, "w", driver="GTiff", transform=transform, crs=crs, **shape, **options) as file:
        file.write(pixels_BHW)
    return str(path)


def heights_of(height_px, width_px):
    """A slope with roofs, NaN holes and pixels of the usual nodata value -9999."""
    dsm = np.linspace(30, 36, height_px * width_px, dtype=np.float32).reshape(height_px, width_px)
    dsm[height_px // 3 : height_px // 2, width_px // 4 : width_px // 2] += 9
    dsm[: height_px // 5, : width_px // 3] = np.nan
    dsm[-2:, -5:] = -9999
    return dsm
