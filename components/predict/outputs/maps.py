"""From finished pixels to the files of a map: Cloud-Optimized GeoTIFFs (COGs) with tags, colours, names and styles.

The files are made in the working folder and then renamed, the class map last: a file with its final name is complete.
Its bytes depend only on facts and pixels. GDAL reads the raw files through a small VRT.
"""

from __future__ import annotations

import errno
import os
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil
from rasterio.errors import NotGeoreferencedWarning

from components.common.errors import MobanetError, reason
from components.common.rasterfiles.formats import GDAL_ERRORS
from components.predict.outputs import map_summary
from components.predict.outputs.map_facts import PREFIX, MapFacts
from components.predict.outputs.map_layers import CLASSES, LAYERS, layer_path
from components.predict.outputs.qml import style
from components.predict.outputs.seams import Seams, measure
from components.predict.outputs.working import Working

COUNTS = f"{PREFIX}COUNTS"
"""Tag of a part: what `combine` adds up."""

CACHE_BYTES = 16 * 1024**2
"""GDAL's cache of blocks, which bounds the memory of making a COG."""

COG = {
    "driver": "COG",
    "compress": "DEFLATE",  # every reader has it
    "blocksize": 512,
    "bigtiff": "IF_SAFER",
    "num_threads": "ALL_CPUS",  # changes no byte
}

LEAST_FREE_BYTES = 1024**2
"""If GDAL fails to write and less space than this is left, the disk is full."""

STALE = (".ovr", ".msk")
"""Overviews and masks that another program made of an earlier map; GDAL would apply them to the new one."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The complete files of a map, in the working folder."""

    working: Working
    paths: Mapping[str, Path]  # by layer
    seams: Seams
    tags: Mapping[str, str]

    def summary(self) -> dict[str, Any]:
        """The summary of the map, as JSON content."""
        work = self.working
        return map_summary.summary(work.facts, work.read(CLASSES), work.counts, self.seams, dict(self.tags))

    def place(self) -> None:
        """Rename the files to their final names, the class map last, and release the working folder."""
        output = self.working.output
        for name in sorted(self.paths, key=lambda name: name == CLASSES):
            draft, target = self.paths[name], layer_path(output, name)
            for one, other in zip(_sidecars(draft), _sidecars(target), strict=True):
                if one.exists():
                    _rename(one, other)
                else:
                    other.unlink(missing_ok=True)  # of an earlier map
            for suffix in STALE:
                target.with_name(target.name + suffix).unlink(missing_ok=True)
            _rename(draft, target)
        self.working.placed = True


def draft_maps(working: Working) -> Draft:
    """Make all files of a map in the working folder, where all blocks are finished.

    Raises:
        MobanetError: GDAL cannot write a file.
        OSError: the disk is full.
    """
    working.commit()
    if not working.finished:
        raise ValueError(f"{working.output}: some blocks are not finished")
    facts, grid = working.facts, working.facts.grid
    window = int(facts.settings["window_px"]), int(facts.settings["stride_px"])
    seams = measure(working.read(CLASSES), working.here, (grid.height_px, grid.width_px), window, working.counts)
    tags = facts.tags() | seams.tags()
    if facts.part is not None:
        tags[COUNTS] = " ".join(map(str, working.counts.numbers))
    paths = {name: working.folder / layer_path(working.output, name).name for name in facts.layers}
    for name, path in paths.items():
        _write(working, name, tags, path)
        path.with_suffix(".qml").write_text(style(name, facts.classes, facts.palette), encoding="utf-8")
    return Draft(working, paths, seams, tags)


@contextmanager
def opened(path: Path) -> Iterator[rasterio.DatasetReader]:
    """Open a file of a map; a map without a position is no reason for a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        file = rasterio.open(path, driver="GTiff")
    with file:
        yield file


def _write(working: Working, layer: str, tags: Mapping[str, str], path: Path) -> None:
    """Write a layer as a COG."""
    for old in (path, *_sidecars(path)):
        old.unlink(missing_ok=True)
    vrt = working.folder / f"{layer}.vrt"
    vrt.write_bytes(_vrt(working, layer, tags))
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            rasterio.shutil.copy(vrt, path, overview_resampling=LAYERS[layer].overviews, **COG)
        with opened(path) as file:  # fails if the file is cut off
            file.read(1, window=((file.height - 1, file.height), (file.width - 1, file.width)))
    except GDAL_ERRORS as error:
        _require_space(working.folder)
        sentence = f"GDAL cannot write this file ({reason(error)}); free some disk space and run the same command again"
        raise MobanetError(f"{path}: {sentence}") from error


def _vrt(working: Working, layer: str, tags: Mapping[str, str]) -> bytes:
    """Description of a raw file for GDAL, with all that the COG states."""
    facts, here, kind = working.facts, working.here, LAYERS[layer]
    grid = here.grid(facts.grid)
    root = ET.Element("VRTDataset", rasterXSize=str(grid.width_px), rasterYSize=str(grid.height_px))
    if grid.crs is not None:
        ET.SubElement(root, "SRS").text = grid.crs.to_wkt()
    if grid.transform is not None:
        ET.SubElement(root, "GeoTransform").text = ", ".join(map(repr, map(float, grid.transform.to_gdal())))
    metadata = ET.SubElement(root, "Metadata")
    for key, value in tags.items():
        ET.SubElement(metadata, "MDI", key=key).text = value
    for number, description in enumerate(kind.bands(facts.classes), 1):
        band = ET.SubElement(root, "VRTRasterBand", dataType="Byte", band=str(number), subClass="VRTRawRasterBand")
        content: dict[str, Any] = {"Description": description, "NoDataValue": kind.nodata}
        content |= {"UnitType": "percent"} if kind.percent else {}
        content |= {"ColorInterp": "Palette" if layer == CLASSES else "Gray" if number == 1 else "Undefined"}
        for name, text in content.items():
            ET.SubElement(band, name).text = str(text)
        if layer == CLASSES:
            _add_classes(band, facts)
        ET.SubElement(band, "SourceFilename", relativetoVRT="1").text = working.raw(layer).name
        offset = (number - 1) * grid.width_px * grid.height_px
        for name, step in (("ImageOffset", offset), ("PixelOffset", 1), ("LineOffset", grid.width_px)):
            ET.SubElement(band, name).text = str(step)
    return ET.tostring(root, encoding="utf-8")


def _add_classes(band: ET.Element, facts: MapFacts) -> None:
    """Names and colours of the classes."""
    names, colours = ET.SubElement(band, "CategoryNames"), ET.SubElement(band, "ColorTable")
    for name, (red, green, blue) in zip(facts.classes, facts.palette, strict=True):
        ET.SubElement(names, "Category").text = name
        ET.SubElement(colours, "Entry", c1=str(red), c2=str(green), c3=str(blue), c4="255")


def _sidecars(path: Path) -> tuple[Path, Path]:
    """Files that belong to a map: GDAL's metadata with category names, and the style."""
    return path.with_name(f"{path.name}.aux.xml"), path.with_suffix(".qml")


def _rename(draft: Path, target: Path) -> None:
    """Rename a file whose content is on disk."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(target)


def _require_space(folder: Path) -> None:
    free = os.statvfs(folder)
    if free.f_bavail * free.f_frsize < LEAST_FREE_BYTES:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder)) from None
