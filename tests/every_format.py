"""A small raster in any of the supported formats, with everything that the format stores next to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rasterio import Affine

from components.common.rasterfiles.formats import FORMATS

EXACT = {
    "JP2OpenJPEG": {"REVERSIBLE": "YES", "QUALITY": "100"},
    "WEBP": {"LOSSLESS": "YES"},
    "HFA": {"USE_SPILL": "YES"},  # the pixels go to an .ige
}
SIDES = {".hgt": 1201, ".dt0": 121, ".dt1": 1201, ".dt2": 3601}  # formats of whole degrees
BYTES = {"GTiff": 3, "WEBP": 3, "JPEG": 1, "PNG": 1, "BMP": 1}  # bands of formats with 8 bits


def write(folder: Path, suffix: str, name: str = "a") -> tuple[Path, np.ndarray, Affine]:
    """Write a raster; returns its path, pixels and transform."""
    driver = FORMATS[suffix].driver
    pixels_BHW, transform, crs = _content(suffix, driver)
    folder.mkdir(parents=True, exist_ok=True)
    path, source = folder / f"{name}{suffix}", folder / f"{name}_source.tif"
    bands, height, width = pixels_BHW.shape
    profile = {"width": width, "height": height, "count": bands, "dtype": pixels_BHW.dtype, "crs": crs}
    with rasterio.open(source, "w", "GTiff", transform=transform, **profile) as file:
        file.write(pixels_BHW)
    rasterio.shutil.copy(source, path, driver=driver, **EXACT.get(driver, {}))
    if driver != "VRT":
        source.unlink()
    return path, pixels_BHW, transform


def _content(suffix: str, driver: str) -> tuple[np.ndarray, Affine, str]:
    rng = np.random.default_rng(5)
    if side := SIDES.get(suffix):
        step = 1 / (side - 1)
        heights = rng.integers(1, 250, (1, side, side)).astype(np.int16)
        return heights, Affine(step, 0, 7 - step / 2, 0, -step, 46 + step / 2), "EPSG:4326"
    if driver == "USGSDEM":
        heights = rng.integers(1, 250, (1, 100, 80)).astype(np.int16)
        return heights, Affine(30, 0, 400_000, 0, -30, 4_500_000), "EPSG:26917"
    bands, dtype = BYTES.get(driver, 1), "uint8" if driver in BYTES else "float32"
    if driver in ("JP2OpenJPEG", "EHdr"):
        dtype = "int16"
    pixels_BHW = np.full((bands, 20, 30), 100) if driver == "JPEG" else rng.integers(1, 250, (bands, 20, 30))
    return pixels_BHW.astype(dtype), Affine(0.5, 0, 400_000, 0, -0.5, 5_700_000), "EPSG:25832"
