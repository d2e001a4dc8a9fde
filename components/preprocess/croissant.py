"""Describe a store for programs that do not know it: Croissant metadata with the GeoCroissant extension.

In: a store that is complete, and its manifest. Out: `croissant.json` next to the manifest: terms of use, the data
version, checksums of all files, bands, reference system, ground size, splits, classes and tiles. The description
follows from manifest and files alone, so it needs no date and does not change the data version.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from rasterio import Affine
from rasterio.errors import CRSError
from rasterio.warp import transform_bounds

from components.common.data.datasets import IGNORE
from components.common.data.store import CROISSANT, FORMAT, MANIFEST, Manifest, TileEntry
from components.common.files import digest, write_json
from components.common.pool import cores
from components.common.rasterfiles.formats import GDAL_ERRORS

VERSIONS = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/geo/1.0")
"""Specifications that the description follows."""

ARROW = "application/vnd.apache.arrow.file"

USAGE = {"train": "cr:TrainingSplit", "val": "cr:ValidationSplit", "test": "cr:TestSplit"}
"""Subset -> what Croissant calls it."""

DEGREES_DIGITS = 7
"""Decimal places of longitudes and latitudes: about 1 cm."""

OF_CROISSANT = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileObject fileProperty fileSet format "
    "includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
    "samplingRate separator source subField transform"
).split()
"""Terms that the vocabulary of Croissant defines; terms without a prefix are otherwise those of schema.org."""

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "geocr": "http://mlcommons.org/croissant/geo/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "name": {"@container": "@language"},
} | {term: f"cr:{term}" for term in OF_CROISSANT}

Json = dict[str, Any]

OF_CLASS: Json = {"references": {"field": {"@id": "classes/value"}}}
"""Says that the values of a field are classes."""


def write_croissant(store: Path, manifest: Manifest, workers: int) -> None:
    """Write the description atomically.

    Args:
        store: folder with every tile of the manifest, and with the manifest.
        manifest: what the store holds.
        workers: threads that compute checksums; 0: one per core.
    """
    files = [*(entry.file for entry in manifest.tiles), MANIFEST]
    with ThreadPoolExecutor(workers or cores()) as threads:
        sums = dict(zip(files, threads.map(partial(_sha256, store), files), strict=True))
    sizes = {file: (store / file).stat().st_size for file in files}
    write_json(store / CROISSANT, describe(manifest, sums, sizes))


def describe(manifest: Manifest, sums: Mapping[str, str], sizes: Mapping[str, int]) -> Json:
    """The description of a store.

    Args:
        manifest: what the store holds.
        sums: sha256 of every tile file and of the manifest.
        sizes: their sizes, bytes.
    """
    boxes = {entry.id: _degrees(entry) for entry in manifest.tiles}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(VERSIONS),
        "name": f"{manifest.dataset}-{manifest.split}",
        "description": _summary(manifest),
        **_terms(manifest.acknowledgement),
        "version": f"{FORMAT}.0.0+{manifest.data_md5}",
        **_place(manifest, [box for box in boxes.values() if box]),
        "geocr:bandConfiguration": _bands(manifest.bands),
        "distribution": [_file(name, sums[name], sizes[name]) for name in sums] + [_tile_files()],
        "recordSet": [_splits(manifest), _classes(manifest), _tiles(manifest, boxes), _rows(manifest)],
    }


def _terms(acknowledgement: str) -> Json:
    """Licence and citation; nothing if the data set states none."""
    if not acknowledgement:
        return {}
    licence = {"@type": "sc:CreativeWork", "name": "terms of use", "text": acknowledgement}
    return {"license": licence, "citeAs": acknowledgement}


def _sha256(store: Path, file: str) -> str:
    return digest(store / file)


def _summary(manifest: Manifest) -> str:
    counts = ", ".join(f"{len(manifest.subset(subset))} {subset}" for subset in USAGE)  # type: ignore[arg-type]
    return (
        f"Co-registered aerial images ({', '.join(manifest.bands)}) and heights with a class for every pixel; tiles: "
        f"{counts}. Image and heights are prepared for training as {MANIFEST} says."
    )


def _place(manifest: Manifest, boxes: Sequence[tuple[float, ...]]) -> Json:
    """Ground size, reference system and extent; the latter two only if all tiles share or have one."""
    place: dict[str, Any] = {
        "geocr:spatialResolution": {"@type": "QuantitativeValue", "value": manifest.gsd_m, "unitText": "m"}
    }
    systems = {entry.crs for entry in manifest.tiles}
    if len(systems) == 1 and "" not in systems:
        place["geocr:coordinateReferenceSystem"] = systems.pop()
    if boxes:
        west, south, east, north = zip(*boxes, strict=True)
        box = _box((min(west), min(south), max(east), max(north)))
        place["spatialCoverage"] = {"@type": "Place", "geo": {"@type": "GeoShape", "box": box}}
    return place


def _degrees(entry: TileEntry) -> tuple[float, ...] | None:
    """West, south, east and north of a tile, degrees (WGS 84); None: not known, or it crosses the 180th meridian."""
    if not entry.crs:
        return None
    to_map = Affine(*entry.transform)
    corners = [to_map @ (x, y) for x in (0, entry.width_px) for y in (0, entry.height_px)]
    xs, ys = zip(*corners, strict=True)
    try:
        bounds = transform_bounds(entry.crs, "EPSG:4326", min(xs), min(ys), max(xs), max(ys))
    except (CRSError, *GDAL_ERRORS):  # a local system, which has no place on Earth
        return None
    if not all(map(math.isfinite, bounds)) or bounds[0] > bounds[2]:
        return None
    return tuple(round(value, DEGREES_DIGITS) for value in bounds)


def _box(bounds: tuple[float, ...]) -> str:
    """Bounds as schema.org writes them: the south-western corner, then the north-eastern, latitude first."""
    west, south, east, north = bounds
    return f"{south} {west} {north} {east}"


def _bands(names: Sequence[str]) -> Json:
    return {
        "@type": "geocr:BandConfiguration",
        "geocr:totalBands": len(names),
        "geocr:bandNameList": list(names),
    }


def _file(name: str, sha256: str, size: int) -> Json:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": "application/json" if name == MANIFEST else ARROW,
        "sha256": sha256,
    }


def _tile_files() -> Json:
    return {
        "@type": "cr:FileSet",
        "@id": "tile-files",
        "name": "tile-files",
        "description": "One file per tile; its one record batch has a row per row of the image.",
        "encodingFormat": ARROW,
        "includes": "*.arrow",
    }


def _records(name: str, description: str, key: str, fields: Sequence[Json], **more: Any) -> Json:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "key": {"@id": f"{name}/{key}"},
        **more,
        "field": list(fields),
    }


def _field(place: str, kind: str, description: str, **more: Any) -> Json:
    """A field; `place` is the name of its record set, a slash, and its own name."""
    name = place.partition("/")[2]
    return {"@type": "cr:Field", "@id": place, "name": name, "description": description, "dataType": kind} | more


def _splits(manifest: Manifest) -> Json:
    used = {entry.subset for entry in manifest.tiles}
    rows = [{"splits/name": name, "splits/url": url} for name, url in USAGE.items() if name in used]
    fields = [_field("splits/name", "sc:Text", "Name of the subset."), _field("splits/url", "sc:URL", "Its purpose.")]
    about = "Subsets of the tiles. Validation tiles are taken from the training tiles."
    return _records("splits", about, "name", fields, dataType="cr:Split", data=rows)


def _classes(manifest: Manifest) -> Json:
    rows = [
        {
            "classes/value": value,
            "classes/name": name,
            "classes/colour": "#{:02x}{:02x}{:02x}".format(*rgb),
            "classes/in_means": counts,
        }
        for value, (name, rgb, counts) in enumerate(
            zip(manifest.classes, manifest.palette, manifest.in_means, strict=True)
        )
    ]
    fields = [
        _field("classes/value", "cr:Int64", f"Value in a label; {IGNORE} is a pixel without a class."),
        _field("classes/name", "sc:Text", "Name of the class."),
        _field("classes/colour", "sc:Text", "Colour in pictures and maps, red, green and blue as #rrggbb."),
        _field("classes/in_means", "sc:Boolean", "Whether the class counts in mean IoU and mean F1."),
    ]
    return _records("classes", "Classes of the pixels.", "value", fields, dataType="sc:Enumeration", data=rows)


def _tiles(manifest: Manifest, boxes: Mapping[str, tuple[float, ...] | None]) -> Json:
    rows = [_tile_row(entry, boxes[entry.id]) for entry in manifest.tiles]
    fields = [
        _field("tiles/id", "sc:Text", "Name of the tile."),
        _field("tiles/split", "sc:Text", "Its subset.", references={"field": {"@id": "splits/name"}}),
        _field("tiles/file", "sc:Text", "Its file in this folder."),
        _field("tiles/height_px", "cr:Int64", "Rows, pixels."),
        _field("tiles/width_px", "cr:Int64", "Columns, pixels."),
        _field("tiles/crs", "sc:Text", "Coordinate reference system; empty: not known."),
        _field("tiles/transform", "sc:Text", "a, b, c, d, e, f: x = a * column + b * row + c, y = d * column + ..."),
        _field("tiles/box", "sc:Text", "South, west, north and east, degrees (WGS 84); empty: none."),
        _field("tiles/image", "sc:Boolean", "Whether the tile has an image; otherwise its image is 0."),
        _field("tiles/dsm", "sc:Boolean", "Whether the tile has heights; otherwise they are NaN."),
        _field("tiles/unlabelled_px", "cr:Int64", "Pixels without a class."),
        _field("tiles/heights_missing", "sc:Float", "Share of pixels without a measured height, 0 to 1."),
    ]
    return _records("tiles", "Tiles, and where they lie.", "id", fields, data=rows)


def _tile_row(entry: TileEntry, box: tuple[float, ...] | None) -> Json:
    values = {
        "id": entry.id,
        "split": entry.subset,
        "file": entry.file,
        "height_px": entry.height_px,
        "width_px": entry.width_px,
        "crs": entry.crs,
        "transform": ", ".join(map(repr, entry.transform)),
        "box": _box(box) if box else "",
        "image": "rgb" in entry.sensors,
        "dsm": "dsm" in entry.sensors,
        "unlabelled_px": entry.ignored_px,
        "heights_missing": entry.dsm_missing_share,
    }
    return {f"tiles/{name}": value for name, value in values.items()}


def _rows(manifest: Manifest) -> Json:
    """The pixels: a record is one row of the image of one tile."""
    low, high = manifest.image_range
    bands = {"geocr:bandConfiguration": _bands(manifest.bands)}
    height = {"geocr:bandConfiguration": _bands(("height",))}
    file = {"fileSet": {"@id": "tile-files"}, "extract": {"fileProperty": "filename"}}
    image = f"Image; the values {low:g} and {high:g} of the raw files are 0 and 255."
    dsm = f"Heights, scaled by the method {manifest.heights.method}, see {MANIFEST}; NaN: not measured."
    rim = f"The same without the pixels at object boundaries, which are {IGNORE}."
    return {
        "@type": "cr:RecordSet",
        "@id": "rows",
        "name": "rows",
        "description": "Rows of the images of all tiles, from the first to the last.",
        "field": [
            _field("rows/file", "sc:Text", "File of the tile.", source=file),
            _column("image", "cr:UInt8", image, f"-1,{len(manifest.bands)}") | bands,
            _column("dsm", "cr:Float32", dsm, "-1") | height,
            _column("label", "cr:UInt8", f"Class of every pixel; {IGNORE}: none.", "-1") | OF_CLASS,
            _column("eroded", "cr:UInt8", rim, "-1") | OF_CLASS,
        ],
    }


def _column(name: str, kind: str, description: str, shape: str) -> Json:
    """A column of the tile files, an array per row; -1 stands for the width of the tile."""
    source = {"fileSet": {"@id": "tile-files"}, "extract": {"column": name}}
    return _field(f"rows/{name}", kind, description, isArray=True, arrayShape=shape, source=source)
