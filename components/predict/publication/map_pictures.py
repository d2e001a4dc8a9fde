"""Small pictures of a map and of the raster under it, for a page. Rasters are read in strips, so any size works.

Letters: H rows, W columns, C bands, h w rows and columns of a picture.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import Resampling

from components.common.rasterfiles.rasters import RasterFile
from components.common.rasterfiles.source_files import open_source
from components.common.scoring.panels import Picture, class_picture, height_picture, image_picture
from components.predict.outputs.map_facts import PREFIX, Colour

STRIP_PX = 512
"""About so many rows are read at once."""

STRETCH = (1, 99)
"""Percentiles that become black and white in pictures of images that have other values than 0 to 255."""


def classes_of(output: Path) -> dict[str, Colour]:
    """Name -> colour of every class of a map, in the order of their values."""
    with rasterio.open(output) as file:
        stated = json.loads(file.tags()[f"{PREFIX}CLASSES"])
    return {name: tuple(colour) for name, colour in stated.items()}


def classes_picture(output: Path, palette: Sequence[Colour], side_px: int) -> Picture:
    """A class map `[h, w, 3]`, at most `side_px` wide and high, from its overviews; black: no class."""
    with rasterio.open(output) as file:
        factor = ceil(max(file.height, file.width) / side_px)
        shape = ceil(file.height / factor), ceil(file.width / factor)
        classes_hw = file.read(1, out_shape=shape, resampling=Resampling.nearest)
    return class_picture(classes_hw, palette)


def photograph(names: Sequence[str], side_px: int) -> Picture:
    """An image `[h, w, 3]` of the same size as `classes_picture`; its first three bands are red, green and blue.

    Args:
        names: files of the image.
        side_px: longest side of the picture.

    Raises:
        Rejected: the image cannot be read.
    """
    with ExitStack() as stack:
        file = open_source(names, stack)
        header = file.header
        numbers = [number for number in range(1, header.bands + 1) if number != header.alpha][:3]
        values_hwC = _shrunk(file, numbers, side_px)
        if header.palette and len(numbers) == 1:
            return class_picture(values_hwC[..., 0].astype(np.uint8), [header.palette[i][:3] for i in range(255)])
        if set(header.dtypes) != {"uint8"}:
            low, high = np.nanpercentile(values_hwC, STRETCH)
            values_hwC = (values_hwC - low) / max(high - low, 1e-6) * 255
    return image_picture(np.nan_to_num(values_hwC).clip(0, 255).astype(np.uint8))


def heights(names: Sequence[str], side_px: int) -> Picture:
    """Heights `[h, w, 3]` as colours, of the same size as `classes_picture`; purple: not measured.

    Args:
        names: files of the DSM.
        side_px: longest side of the picture.

    Raises:
        Rejected: the DSM cannot be read.
    """
    with ExitStack() as stack:
        return height_picture(_shrunk(open_source(names, stack), [1], side_px)[..., 0])


def _shrunk(file: RasterFile, numbers: Sequence[int], side_px: int) -> npt.NDArray[np.float32]:
    """Bands of a raster `[h, w, C]`: means of squares of pixels, or of colour numbers the first; NaN: nodata."""
    header = file.header
    factor = ceil(max(header.height_px, header.width_px) / side_px)
    step = factor * max(1, STRIP_PX // factor)
    rows_hwC = []
    for top in range(0, header.height_px, step):
        pixels_CHW = file.read(numbers, slice(top, min(top + step, header.height_px))).astype(np.float32)
        if header.palette:
            rows_hwC.append(pixels_CHW[:, ::factor, ::factor].transpose(1, 2, 0))
            continue
        for band_HW, number in zip(pixels_CHW, numbers, strict=True):
            if (nodata := header.nodata[number - 1]) is not None:
                band_HW[band_HW == np.float32(nodata)] = np.nan
        rows_hwC.append(_means(pixels_CHW, factor).transpose(1, 2, 0))
    return np.concatenate(rows_hwC)


def _means(pixels_CHW: npt.NDArray[np.float32], factor: int) -> npt.NDArray[np.float32]:
    """Means of squares `[C, h, w]` of the measured pixels; squares at the edges are smaller; NaN: none is measured."""
    measured_CHW = np.isfinite(pixels_CHW)
    sums, counts = np.where(measured_CHW, pixels_CHW, 0), measured_CHW.astype(np.float32)
    for axis in (1, 2):
        starts = np.arange(0, pixels_CHW.shape[axis], factor)
        sums, counts = np.add.reduceat(sums, starts, axis), np.add.reduceat(counts, starts, axis)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts, np.float32)
