"""Where a model was trained: the ground of its tiles, in degrees.

In: tiles as the manifest of a store lists them. Out: an outline for a catalogue. Coordinates are rounded to about
0.1 m, so that versions of PROJ do not change them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
import shapely
from pyproj.exceptions import CRSError, ProjError

from components.common.data.store import TileEntry

GRID_DEGREES = 1e-6
DECIMALS = 6

EDGE_POINTS = 8
"""Points along an edge of a tile: in degrees, edges are bent."""


@dataclass(frozen=True, slots=True)
class Area:
    """A place on the ground, WGS 84."""

    geometry: dict[str, Any]  # GeoJSON
    bounds: tuple[float, float, float, float]  # west, south, east, north, degrees


def area_of(tiles: Sequence[TileEntry]) -> Area | None:
    """The ground of all tiles together; None: the position of one of them is unknown, or there are none."""
    parts = [_outline(tile) for tile in tiles]
    known = [part for part in parts if part is not None]
    if not parts or len(known) < len(parts):
        return None
    whole = shapely.set_precision(shapely.union_all(known), GRID_DEGREES).simplify(GRID_DEGREES)
    west, south, east, north = (round(float(limit), DECIMALS) for limit in whole.bounds)
    if whole.is_empty or east - west > 180:  # across the 180th meridian, where this outline would be that of the rest
        return None
    return Area(_rounded(shapely.geometry.mapping(whole)), (west, south, east, north))


def _outline(tile: TileEntry) -> shapely.Polygon | None:
    """Outline of a tile in degrees; None: its position is unknown."""
    if not tile.crs:
        return None
    try:
        system = pyproj.CRS.from_user_input(tile.crs)
        to_degrees = pyproj.Transformer.from_crs(system, "EPSG:4326", always_xy=True)
    except (CRSError, ProjError):  # a local system
        return None
    a, b, c, d, e, f = tile.transform[:6]
    sides = shapely.box(0, 0, tile.width_px, tile.height_px)
    ring = shapely.segmentize(sides, max(tile.width_px, tile.height_px) / EDGE_POINTS).exterior
    column, row = np.array(ring.coords.xy)
    x, y = to_degrees.transform(a * column + b * row + c, d * column + e * row + f)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    polygon = shapely.Polygon(np.stack([x, y], axis=1))
    return polygon if polygon.is_valid else None


def _rounded(content: Any) -> Any:
    """GeoJSON with rounded coordinates."""
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return round(content, DECIMALS) if isinstance(content, float) else content
