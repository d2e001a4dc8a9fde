"""A map as a STAC item: where it lies, what its classes are, which model made it, and the files that go with it.

Extensions: projection, raster, classification and file. The item names its files relative to itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyproj
import pystac
import rasterio
import shapely
from pystac.extensions.classification import Classification, ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import DataType, RasterBand, RasterExtension

from components.common.files import digest, write_json
from components.common.rasterfiles.grids import Grid
from components.common.readers.footprints import footprint, pixel_size_m
from components.predict.outputs.map_facts import PREFIX
from components.predict.outputs.map_layers import LAYERS, NODATA, layer_path
from components.predict.publication.map_pictures import classes_of

SHA256 = "1220"
"""Beginning of a sha256 as a multihash, which the extension `file` requires: algorithm and length."""

STRAIGHT = 1e-4
"""How far the outline may be from the true one, as a share of its longer side; straight edges need few points."""

OTHERS = {
    ".qml": ("style", "QGIS style", "application/xml", ["metadata", "style"]),
    ".gpkg": ("polygons", "Polygons", "application/geopackage+sqlite3", ["data"]),
    ".html": ("page", "Page with the result", "text/html", ["overview"]),
    "_summary.json": ("summary", "Areas, sensor coverage and seams", "application/json", ["metadata"]),
}
"""Ending of a file after the name of the map -> key, title, media type and roles of its asset."""


@dataclass(frozen=True, slots=True)
class Acquisition:
    """When the images were taken."""

    time: datetime
    source: str  # form, image (its tag TIFFTAG_DATETIME), or prediction (the time is unknown, so it is now)


def acquisition(given: datetime | None, names: tuple[str, ...]) -> Acquisition:
    """Time of the images: as given, else as the first file on disk states, else now.

    Args:
        given: time in the form of the run; None: none.
        names: files of the image, or of the DSM without an image.
    """
    if given is not None:
        return Acquisition(given, "form")
    stated = None
    if Path(names[0]).is_file():
        with rasterio.open(names[0]) as file:
            stated = file.tags().get("TIFFTAG_DATETIME")
    try:
        return Acquisition(datetime.strptime(stated or "", "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC), "image")
    except ValueError:
        return Acquisition(datetime.now(UTC), "prediction")


def write_item(path: Path, output: Path, acquired: Acquisition) -> None:
    """Write the STAC item of a map.

    Args:
        path: the item, in the folder of the map.
        output: the map; the files next to it become assets.
        acquired: time of the images.
    """
    with rasterio.open(output) as file:
        grid = Grid(file.height, file.width, file.transform if file.crs else None, file.crs)
        tags: dict[str, str] = file.tags()
    outline = _outline(grid)
    item = pystac.Item(
        id=output.stem,
        geometry=None if outline is None else shapely.geometry.mapping(outline),
        bbox=None if outline is None else list(outline.bounds),
        datetime=acquired.time,
        properties=_properties(tags, acquired),
    )
    item.common_metadata.created = datetime.now(UTC)
    projection = ProjectionExtension.ext(item, add_if_missing=True)
    projection.shape = [grid.height_px, grid.width_px]
    if grid.transform is not None and grid.crs is not None:
        authority = grid.crs.to_authority()
        projection.apply(
            code=":".join(authority) if authority else None,
            wkt2=None if authority else grid.crs.to_wkt(version="WKT2_2019"),
            shape=[grid.height_px, grid.width_px],
            transform=list(grid.transform[:6]),
        )
    _add_layers(item, output, grid)
    _add_others(item, output)
    write_json(path, item.to_dict(include_self_link=False))


def _properties(tags: dict[str, str], acquired: Acquisition) -> dict[str, Any]:
    facts = ("MODEL", "MODEL_VERSION", "MODEL_SHA256", "DATA_MD5", "SENSORS", "AGREEMENT")
    stated = {f"mobanet:{name.lower()}": tags[PREFIX + name] for name in facts if PREFIX + name in tags}
    return stated | {"mobanet:datetime_from": acquired.source}


def _add_layers(item: pystac.Item, output: Path, grid: Grid) -> None:
    """The map and its further layers, each with its bands and, for classes, their names and colours."""
    size = pixel_size_m(grid)
    for name, layer in LAYERS.items():
        path = layer_path(output, name)
        if not path.is_file():
            continue
        with rasterio.open(path) as file:
            count = file.count
        roles = ["data"] if name == "classes" else ["data", "metadata"]
        title = "Class map" if name == "classes" else name.capitalize()
        asset = _asset(item, name, path, title, pystac.MediaType.COG, roles)
        bands = [
            RasterBand.create(nodata=layer.nodata, data_type=DataType.UINT8, spatial_resolution=size and max(size))
            for _ in range(count)
        ]
        RasterExtension.ext(asset, add_if_missing=True).apply(bands)
        if name == "classes":
            ClassificationExtension.ext(asset, add_if_missing=True).apply(_classes(path))


def _classes(output: Path) -> list[Classification]:
    found = [
        Classification.create(
            value=value,
            name=re.sub(r"[^0-9A-Za-z_-]+", "_", name),
            title=name,
            color_hint="{:02X}{:02X}{:02X}".format(*colour),
        )
        for value, (name, colour) in enumerate(classes_of(output).items())
    ]
    return [*found, Classification.create(value=NODATA, name="no_class", title="No class", nodata=True)]


def _add_others(item: pystac.Item, output: Path) -> None:
    for ending, (key, title, media_type, roles) in OTHERS.items():
        path = output.with_name(output.stem + ending)
        if path.is_file():
            _asset(item, key, path, title, media_type, roles)


def _asset(item: pystac.Item, key: str, path: Path, title: str, media_type: str, roles: list[str]) -> pystac.Asset:
    asset = pystac.Asset(href=f"./{path.name}", title=title, media_type=media_type, roles=roles)
    item.add_asset(key, asset)
    FileExtension.ext(asset, add_if_missing=True).apply(size=path.stat().st_size, checksum=SHA256 + digest(path))
    return asset


def _outline(grid: Grid) -> shapely.Polygon | None:
    """Outline of the map in WGS 84; None: its position is unknown."""
    if grid.transform is None or grid.crs is None:
        return None
    to_degrees = pyproj.Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    outline = shapely.transform(footprint(grid), to_degrees.transform, interleaved=False)
    if not outline.is_valid:  # beyond the area of the reference system
        return None
    west, south, east, north = outline.bounds
    return outline.simplify(STRAIGHT * max(east - west, north - south))
