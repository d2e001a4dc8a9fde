"""A small class map with the tags and the summary of a real one, for tests of what is made of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio
from rasterio import Affine

NAMES = ("building", "paved_road")
PALETTE = ((0, 0, 255), (255, 255, 255))
TAGS = {
    "MOBANET_MODEL": "models:/mobanet/3",
    "MOBANET_MODEL_VERSION": "3",
    "MOBANET_MODEL_SHA256": "abc123",
    "MOBANET_DATA_MD5": "def456",
    "MOBANET_CLASSES": json.dumps(dict(zip(NAMES, PALETTE, strict=True))),
    "MOBANET_SENSORS": "image dsm",
    "MOBANET_AGREEMENT": "0.975000",
}
UTM = "EPSG:32633"
TRANSFORM = Affine(3.2, 0, 391_000, 0, -3.2, 5_820_000)


def write_raster(path: Path, pixels_BHW, nodata=None, transform=TRANSFORM, crs=UTM, tags=None) -> Path:
    """A GeoTIFF."""
    bands, height, width = pixels_BHW.shape
    profile = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": pixels_BHW.dtype}
    with rasterio.open(path, "w", **profile, nodata=nodata, transform=transform, crs=crs) as file:
        file.write(pixels_BHW)
        file.update_tags(**(tags or {}))
    return path


def write_map(folder: Path, name: str = "city", transform=TRANSFORM, crs=UTM) -> tuple[Path, Path]:
    """A map of 40 x 60 px, left quarter road, else building, first row without a class; its path and its summary's."""
    classes = np.zeros((1, 40, 60), np.uint8)
    classes[:, :, :15] = 1
    classes[:, 0] = 255
    output = write_raster(folder / f"{name}.tif", classes, 255, transform, crs, TAGS)
    summary = folder / f"{name}_summary.json"
    content = {
        "format": 1,
        "classes": [
            {"name": "building", "pixels": 1755, "share": 0.75, "area_m2": 18_000.0},
            {"name": "paved_road", "pixels": 585, "share": 0.25, "area_m2": 6_000.0},
        ],
        "sensors": {"none": 0.025, "image": 0.475, "DSM": 0.0, "image and DSM": 0.5},
        "seams": {"agreement": 0.975, "changes_on_lines": 0.011, "changes_elsewhere": 0.01},
        "raster": {"height_px": 40, "width_px": 60, "crs": crs, "bounds": [0.0, 1.0, 2.0, 3.0]},
        "model": {"name": "models:/mobanet/3", "version": "3", "sha256": "abc123"},
        "data_md5": "def456",
        "inputs": "fed",
        "given": ["image", "dsm"],
        "settings": {"window_px": 512, "stride_px": 384, "device": "cpu", "bands": None, "allow": []},
        "software": "mobanet-pipeline 0.1",
    }
    summary.write_text(json.dumps(content))
    return output, summary
