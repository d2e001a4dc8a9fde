"""World files and reference systems, written into a TIFF: what it lacks, and nothing that it has.

A world file holds six numbers, one a line: width of a pixel, two rotations, its height, and the map position of the
middle of the upper left pixel.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import rasterio
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from components.acquire.archives import Damaged, Found, content
from components.acquire.tiff_tags import DOUBLE, SHORT, add_tags, read_shorts
from components.common.readers.rasters import parse_crs

MAX_BYTES = 10_000
"""Of a world file."""

PIXEL_SCALE, TIEPOINTS, TRANSFORMATION, GEO_KEYS = 33550, 33922, 34264, 34735
"""Tags of GeoTIFF."""

MODEL_TYPE, RASTER_TYPE, GEOGRAPHIC, PROJECTED = 1024, 1025, 2048, 3072
"""Keys of GeoTIFF."""

MAX_CODE = 32766
"""Of EPSG, in a key."""


@dataclass(frozen=True, slots=True)
class World:
    """The georeference of a picture, and the file that holds it."""

    found: Found
    transform: Affine  # pixel -> map


@dataclass(frozen=True, slots=True)
class Lack:
    """A georeference, or the part of one that a TIFF needs."""

    transform: Affine | None
    crs: str | None

    def __bool__(self) -> bool:
        """Whether it needs anything."""
        return self.transform is not None or self.crs is not None


def read_world(found: Found) -> World:
    """Read a world file.

    Raises:
        Damaged: it is none.
    """
    if found.size > MAX_BYTES:
        raise Damaged(f"{found.name}: is {found.size} bytes long; a world file has six numbers")
    text = b"".join(content(found)).decode("ascii", "replace")
    try:
        a, d, b, e, x, y = (float(number.replace(",", ".")) for number in text.split())
        transform = Affine(a, b, x, d, e, y) @ Affine.translation(-0.5, -0.5)
        if not abs(a * e - b * d) > 0:
            raise ValueError("pixels without size")
    except ValueError:
        raise Damaged(f"{found.name}: not a world file, which has six numbers; mend or remove it") from None
    return World(found, transform)


def nearest(worlds: Collection[World], name: str) -> World | None:
    """Of several world files for one name the one that shares most of its folders."""

    def shared(world: World) -> int:
        pairs = zip(Path(world.found.name).parent.parts, Path(name).parent.parts, strict=False)
        return next((depth for depth, (one, other) in enumerate(pairs) if one != other), len(Path(name).parts))

    return max(worlds, key=shared, default=None)


def lack_of(path: Path, transform: Affine | None, crs: str | None) -> Lack:
    """What a readable TIFF needs: a transform if it has none, the reference system if it has a place only."""
    has = _georeference(path)
    given = transform if has.transform is None else None
    return Lack(given, crs if has.crs is None and (has.transform or given) else None)


def _georeference(path: Path) -> Lack:
    """What a TIFF has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, driver="GTiff") as file:
            has_crs = None if file.crs is None else file.crs.to_wkt()
            return Lack(None if file.transform == Affine.identity() else file.transform, has_crs)


def supply(path: Path, lack: Lack, name: str) -> None:
    """Write what it lacks into a TIFF, in place; its pixels stay as they are.

    Raises:
        Damaged: it cannot be changed.
    """
    try:
        tags: dict[int, tuple[int, Sequence[float]]] = {}
        without: tuple[int, ...] = ()
        if lack.transform is not None:
            a, b, c, d, e, f = lack.transform[:6]
            tags[TRANSFORMATION] = (DOUBLE, (a, b, 0, c, d, e, 0, f, 0, 0, 0, 0, 0, 0, 0, 1))
            without = (PIXEL_SCALE, TIEPOINTS)
        if lack.crs is not None:
            tags[GEO_KEYS] = (SHORT, _geo_keys(lack.crs, _raster_type(read_shorts(path, GEO_KEYS))))
        add_tags(path, tags, without)
        has = _georeference(path)
        if (lack.crs and not has.crs) or (lack.transform and not lack.transform.almost_equals(has.transform)):
            raise ValueError("it contradicts what the file says of itself")
    except (ValueError, RasterioError) as error:
        raise Damaged(f"{name}: its georeference cannot be written ({error}); download or copy it again") from None


def _geo_keys(crs: str, raster_type: int) -> tuple[int, ...]:
    """GeoTIFF's list of keys (header; then key, 0, 1, value) for a reference system with an EPSG code."""
    system = parse_crs(crs)
    code = system.to_epsg()
    if code is None or code > MAX_CODE:
        raise ValueError(f"{crs} has no code that a TIFF can hold")
    kind, key = (1, PROJECTED) if system.is_projected else (2, GEOGRAPHIC)
    keys = ((MODEL_TYPE, kind), (RASTER_TYPE, raster_type), (key, code))
    return (1, 1, 0, len(keys), *(number for key, value in keys for number in (key, 0, 1, value)))


def _raster_type(keys: Sequence[int]) -> int:
    """What a pixel is in the list of keys that a TIFF has: an area (1, also where it does not say) or a point (2)."""
    given = {keys[at]: keys[at + 3] for at in range(4, len(keys) - 3, 4)}
    return given.get(RASTER_TYPE, 1)
