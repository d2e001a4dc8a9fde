"""What a raster file states about itself: size, pixel types, position, nodata, masks, colours. Nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from pathlib import Path

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Interleaving, MaskFlags

MAX_SIDE_PX = 1_000_000
"""Rows or columns of a raster; a larger size comes from a damaged header."""


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
    descriptions: tuple[str, ...]  # what the file calls its bands; empty: no name
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


def header_of(dataset: rasterio.DatasetReader, path: Path | None) -> Header:
    """What an open file states about itself.

    Args:
        dataset: the file.
        path: where it lies on disk, to look for blocks that were never written; None: do not look.

    Raises:
        ValueError: the header is damaged, or blocks lie beyond the end of the file.
    """
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
        dtypes=tuple(dataset.dtypes),
        descriptions=tuple(text or "" for text in dataset.descriptions),
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
        unwritten_share=_unwritten_share(path, dataset) if path is not None and dataset.driver == "GTiff" else 0.0,
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
