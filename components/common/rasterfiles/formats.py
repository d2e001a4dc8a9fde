"""Raster formats that the project reads: GDAL driver, sidecar files and, for VRT, the files that it points to.

GDAL itself opens many more formats. Some of them fetch data from servers, run code or point to other files, so every
file is opened with the one driver that its name stands for.
"""

from __future__ import annotations

import logging
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from components.common.data.names import nfc
from components.common.errors import DataError, reason

logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # GDAL's messages also arrive as exceptions

SETTINGS: dict[str, Any] = {
    "GDAL_CACHEMAX": 64 * 1024**2,  # bytes; not a share of the machine's memory in every process
    "GTIFF_DIRECT_IO": True,  # uncompressed pixels bypass that cache
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,  # a truncated JPEG is an error, not half grey
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": False,  # GDAL's fast path for PNG skips the checksums
    "GDAL_VRT_ENABLE_PYTHON": "NO",  # no code from a data set
}
"""GDAL's configuration for reading."""

GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""What damaged content raises. The second is GDAL's own error, which rasterio lets through for odd GeoTIFF keys."""

COMMON_SIDECARS = (".prj", ".aux.xml", ".msk", ".aux", ".tab")
"""Sidecars of every format, in addition to world files: CRS, GDAL's metadata, mask, ERDAS metadata, MapInfo position.

Overviews (`.ovr`) are left out: nothing reads them.
"""


@dataclass(frozen=True, slots=True)
class Format:
    """A raster format."""

    driver: str  # GDAL's name
    name: str  # for messages
    sidecars: tuple[str, ...]  # endings of its own sidecars, after the stem or the full name
    world: tuple[str, ...]  # suffixes of its world files, the usual one first


def world_suffixes(suffix: str) -> tuple[str, ...]:
    """Suffixes that the world file of a raster with a suffix may have, the usual one first: .tfw, .tifw, .wld."""
    return (f".{suffix[1]}{suffix[-1]}w", f"{suffix}w", ".wld") if suffix else (".wld",)


def _formats() -> dict[str, Format]:
    """Formats by suffix."""
    table = (
        ("GTiff", "TIFF", (".tif", ".tiff"), ()),
        ("JPEG", "JPEG", (".jpg", ".jpeg"), ()),
        ("PNG", "PNG", (".png",), ()),
        ("JP2OpenJPEG", "JPEG 2000", (".jp2", ".j2k"), ()),
        ("AAIGrid", "Esri ASCII grid", (".asc",), ()),
        ("HFA", "ERDAS IMAGINE", (".img",), (".ige", ".rrd", ".rde")),
        ("VRT", "VRT", (".vrt",), ()),
        ("EHdr", "Esri raw raster", (".bil", ".bip", ".bsq", ".flt"), (".hdr", ".clr", ".stx")),
        ("ENVI", "ENVI", (".dat",), (".hdr", ".sta")),
        ("WEBP", "WebP", (".webp",), ()),
        ("BMP", "BMP", (".bmp",), ()),
        ("SRTMHGT", "SRTM height file", (".hgt",), ()),
        ("DTED", "DTED", (".dt0", ".dt1", ".dt2"), ()),
        ("USGSDEM", "USGS DEM", (".dem",), ()),
        ("XYZ", "XYZ grid", (".xyz",), ()),
        ("SAGA", "SAGA grid", (".sdat",), (".sgrd", ".mgrd")),
        ("RST", "IDRISI raster", (".rst",), (".rdc", ".ref", ".smp")),
    )
    return {
        suffix: Format(driver, name, own, world_suffixes(suffix))
        for driver, name, suffixes, own in table
        for suffix in suffixes
    }


FORMATS: dict[str, Format] = _formats()
"""Formats by suffix, lower case."""

WORLD_SUFFIXES: tuple[str, ...] = tuple(dict.fromkeys(suffix for one in FORMATS.values() for suffix in one.world))
"""Suffixes of the world files of all formats, lower case."""


def format_of(path: Path) -> Format:
    """Format of a file, by its suffix and, for raw pixels, by the header file next to it.

    Raises:
        DataError: the suffix is not supported.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise DataError(f"{path}: {unsupported(path.name)}")
    if found.driver in ("EHdr", "HFA") and _has_envi_header(path):
        return replace(found, driver="ENVI", name="ENVI")
    return found


def format_name(path: Path | str) -> str:
    """Name of a file's format for messages, by its suffix."""
    found = FORMATS.get(PurePosixPath(path).suffix.lower())
    return found.name if found else "raster"


def unsupported(name: str) -> str:
    """Sentence about a name with a suffix that is not supported."""
    suffix = PurePosixPath(name).suffix
    what = f"{suffix} files are not supported" if suffix else "a raster needs a suffix"
    return f"{what}; convert it with gdal_translate to .tif (supported: {', '.join(FORMATS)})"


def _has_envi_header(path: Path) -> bool:
    for header in (path.with_suffix(".hdr"), path.with_suffix(".HDR"), path.with_name(f"{path.name}.hdr")):
        if header.is_file():
            with header.open("rb") as file:
                return file.read(4) == b"ENVI"
    return False


def sidecars_of(name: str, names: Iterable[str]) -> list[str]:
    """Files next to a raster that belong to it, as they are named in `names`.

    Args:
        name: the raster's file name or path.
        names: all names or paths of its folder; others do no harm.
    """
    belong = set(sidecar_keys(name))
    return [other for other in names if folded(other) in belong]


def sidecar_keys(name: str) -> list[str]:
    """What `folded` gives for the names that sidecars of a raster may have."""
    own = FORMATS.get(PurePosixPath(name).suffix.lower())
    endings = (*COMMON_SIDECARS, *(own.sidecars + own.world if own else ()))
    return [folded(start) + ending for start in (name, _stem(name)) for ending in endings]


def sidecar_name(name: str, raster: str, sidecar: str) -> str:
    """Name of a sidecar after its raster was renamed to `name`: `A_01.TIF`, `A_01.TFW` and `a_1.tif` give `a_1.tfw`."""
    given, old = folded(sidecar), folded(raster)
    if given.startswith(old):
        return name + given.removeprefix(old)
    return _stem(name) + given.removeprefix(folded(_stem(raster)))


def folded(name: str) -> str:
    """A name without differences of case and of Unicode form (NFC, NFD)."""
    return nfc(name).casefold()


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_+.-]+:")
"""Start of a URL or of a name for one driver, such as `NETCDF:`."""

REFUSED = {
    "pixelfunctioncode": "runs code",
    "pixelfunctionlanguage": "runs code",
    "openoptions": "passes options to a driver",
    "rpctransformer": "uses a sensor model",
    "geoloctransformer": "uses geolocation arrays",
    "processingsteps": "runs processing steps",
    "group": "is multidimensional",
}
"""Elements of a VRT that are refused, and why."""

REFERENCES = ("sourcefilename", "sourcedataset")
"""Elements of a VRT that name a file."""

SPLIT_NAME = re.compile(rb"<source(filename|dataset)[^>]*>[^<]*<[^/]", re.IGNORECASE)
"""A file name with markup in it, which XML parsers read in different ways."""

SUBCLASSES = {"", "vrtwarpeddataset", "vrtpansharpeneddataset"}

REBUILD = "rebuild it with gdalbuildvrt from files inside the folder"


def vrt_sources(path: Path, root: Path) -> list[Path]:
    """Every file that a VRT reads, nested VRTs and their files included, in order of appearance.

    Args:
        path: the VRT.
        root: the folder in which all of them must lie. Links inside it are followed.

    Raises:
        DataError: the VRT is damaged, runs code, or names something other than a raster file inside `root`.
    """
    status = path.stat()
    return list(_sources(path, root, Path.cwd(), status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=64)  # a mosaic is opened for every tile
def _sources(path: Path, root: Path, *_: Path | int) -> tuple[Path, ...]:
    found: dict[Path, None] = {}
    _collect(path, root, found, (path,))
    return tuple(found)


def _collect(path: Path, root: Path, found: dict[Path, None], above: tuple[Path, ...]) -> None:
    for element in vrt_references(path):
        source = vrt_source(path, element, root)
        if source in above:
            raise DataError(f"{path}: this VRT reads itself; {REBUILD}")
        if source in found:
            continue
        found[source] = None
        if source.suffix.lower() == ".vrt":
            _collect(source, root, found, (*above, source))
        else:
            _check_source(path, source)


def vrt_tree(path: Path) -> ET.Element:
    """A VRT's XML.

    Raises:
        DataError: it is damaged, or a kind of VRT that is refused.
    """
    try:
        content = path.read_bytes()
        if b"<!DOCTYPE" in content or SPLIT_NAME.search(content):
            raise ValueError("it has a DOCTYPE, or a comment in a file name")
        tree = ET.fromstring(content)
        if tree.tag.lower() != "vrtdataset":
            raise ValueError(f"it starts with <{tree.tag}>")
    except (OSError, ET.ParseError, ValueError) as error:
        raise DataError(f"{path}: not a readable VRT ({reason(error)}); {REBUILD}") from None
    return tree


def vrt_references(path: Path, tree: ET.Element | None = None) -> Iterator[ET.Element]:
    """The elements of a VRT that name a file; errors as with `vrt_tree`."""
    tree = vrt_tree(path) if tree is None else tree
    for element in tree.iter():
        tag = _plain(element.tag)
        attributes = {_plain(key): value for key, value in element.attrib.items()}  # GDAL reads both the same way
        for name in (tag, *attributes):
            if name in REFUSED:
                raise DataError(f"{path}: this VRT {REFUSED[name]} (<{name}>), which is not allowed; {REBUILD}")
        kind = attributes.get("subclass", "").lower() if tag == "vrtdataset" else ""
        if kind not in SUBCLASSES or attributes.keys() & set(REFERENCES):
            raise DataError(f"{path}: this kind of VRT is not supported; {REBUILD}")
        if tag in REFERENCES:
            yield element


def _plain(name: str) -> str:
    """Name of an element or attribute as GDAL compares it: without namespace, in any case."""
    return name.rpartition("}")[2].lower()


def vrt_source(path: Path, element: ET.Element, root: Path) -> Path:
    """The file that an element of a VRT names; errors as with `vrt_sources`."""
    name = element.text or ""
    base = (path.resolve() if path.is_symlink() else path).parent  # as GDAL does
    if name.startswith(("/vsi", "<")) or PREFIX.match(name):
        raise DataError(f"{path}: its source {name[:100]!r} is not a plain file; {REBUILD}")
    relative = {_plain(key): value for key, value in element.attrib.items()}.get("relativetovrt", "0")
    if not name.startswith("/") and relative != "1":
        raise DataError(f'{path}: its source {name!r} lacks relativeToVRT="1"; {REBUILD}')
    source = _normal(base / name)
    if not any(source.is_relative_to(_normal(top)) for top in (root, root.resolve())):
        raise DataError(f"{path}: its source {name!r} lies outside {root}; {REBUILD}")
    if not source.is_file():
        raise DataError(f"{path}: its source {name!r} does not exist; copy it there, or {REBUILD}")
    if source.suffix.lower() not in FORMATS:
        raise DataError(f"{path}: its source {name!r}: {unsupported(name)}")
    return source


def _normal(path: Path) -> Path:
    """An absolute path without `..`, links left as they are."""
    return Path(os.path.normpath(path.absolute()))


def _check_source(path: Path, source: Path) -> None:
    """Refuse a source that is another format than its name says: GDAL chooses a source's driver by its content."""
    with source.open("rb") as file:
        head = file.read(4096)
    try:
        if head.lstrip()[:1] in (b"<", b"{") or b"<VRTDataset" in head:
            raise ValueError("it is text of another kind")
        with rasterio.open(source, driver=format_of(source).driver):
            pass
    except (*GDAL_ERRORS, ValueError) as error:
        raise DataError(f"{path}: its source {source} is not a readable raster ({reason(error)}); {REBUILD}") from None
