"""Where tiles lie on the ground: the real size of their pixels, and how much ground two tiles share.

A map projection distorts: in Web Mercator at 60 degrees north, a pixel that is 1 m wide on the map is 0.5 m wide on the
ground. Sizes are therefore measured along the ellipsoid, and tiles in different reference systems are compared in a
common one. Without a reference system, coordinates are treated as metres.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from pyproj.exceptions import CRSError, ProjError

from components.common.rasterfiles.grids import Grid
from components.common.rasterfiles.position import same_crs

SPAN_PX = 256
"""The size of a pixel is measured over so many pixels around the centre of a tile."""

EDGE_POINTS = 32
"""Points along an edge: in another reference system, edges are bent."""

TOUCH_PX = 1.0
"""Tiles may overlap by this much at an edge: they share a line of pixels, or their corners are rounded."""

ACROSS = "+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m"
"""Reference system around a place, in which areas are true; tiles of different reference systems are compared in it."""


def pixel_size_m(grid: Grid) -> tuple[float, float] | None:
    """Width and height of a pixel on the ground at the centre of a tile, metres; None: its position is unknown."""
    if grid.transform is None:
        return None
    a, b, _, d, e, _ = grid.transform[:6]
    nominal = float(np.hypot(a, d)), float(np.hypot(b, e))
    if grid.crs is None:
        return nominal
    ellipsoid, to_degrees, unit_m = _system(grid.crs.to_wkt())
    if ellipsoid is None or to_degrees is None:
        return nominal[0] * unit_m, nominal[1] * unit_m
    sizes = []
    for side, step in ((grid.width_px, (1, 0)), (grid.height_px, (0, 1))):
        half = min(side, SPAN_PX) / 2
        x, y = (size / 2 + half * np.array([-one, one]) for size, one in zip(_sides(grid), step, strict=True))
        lon, lat = to_degrees.transform(*(grid.transform @ (x, y)))
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            return nominal[0] * unit_m, nominal[1] * unit_m
        sizes.append(float(ellipsoid.inv(lon[0], lat[0], lon[1], lat[1])[2]) / (2 * half))
    return sizes[0], sizes[1]


def footprint(grid: Grid) -> shapely.Polygon:
    """The outline of a tile in its own reference system, with points along the edges; its position is known."""
    assert grid.transform is not None
    sides = shapely.box(0, 0, grid.width_px, grid.height_px)
    ring = shapely.segmentize(sides, max(grid.width_px, grid.height_px) / EDGE_POINTS).exterior
    return _polygon(*(grid.transform @ np.array(ring.coords.xy)))


def neighbours(grids: Sequence[Grid]) -> Iterator[tuple[int, int]]:
    """Pairs of tiles, by their index, that may share ground; tiles without a position have no neighbours."""
    for known in (True, False):  # tiles without a reference system are compared among themselves
        indices = [i for i, grid in enumerate(grids) if grid.transform is not None and (grid.crs is not None) is known]
        tree = shapely.STRtree([_box(grids[i]) for i in indices])
        for one, other in tree.query(tree.geometries).T.tolist():
            if one < other:
                yield indices[one], indices[other]


def shared_ground(one: Grid, other: Grid) -> tuple[float, float]:
    """Ground that two tiles share: square metres, and the share of the smaller tile, 0..1.

    It is 0 where they only touch: where the common part is nowhere wider than `TOUCH_PX`.
    """
    first, second = in_common_crs(one, other)
    common = first.intersection(second)
    touch = TOUCH_PX / 2 * min(_pixel_side(one, first), _pixel_side(other, second))
    if common.buffer(-touch, join_style="mitre").is_empty:
        return 0.0, 0.0
    grid, outline = min(((one, first), (other, second)), key=lambda pair: pair[1].area)
    share = min(1.0, common.area / outline.area)
    wide_m, high_m = pixel_size_m(grid) or (0.0, 0.0)
    return share * wide_m * high_m * grid.width_px * grid.height_px, share


def in_common_crs(one: Grid, other: Grid) -> tuple[shapely.Polygon, shapely.Polygon]:
    """The outlines of two tiles in one reference system; both or none of them have one."""
    if one.crs is None or other.crs is None or same_crs(one.crs, other.crs):
        return footprint(one), footprint(other)
    lon, lat = _degrees(one)
    around = pyproj.CRS.from_proj4(ACROSS.format(lat=float(np.mean(lat)), lon=_middle(lon))).to_wkt()
    return _outline(one, around), _outline(other, around)


def _box(grid: Grid) -> shapely.Geometry:
    """Limits of a tile in degrees, or in map units without a reference system."""
    x, y = _degrees(grid) if grid.crs is not None else footprint(grid).exterior.coords.xy
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return shapely.Point()
    return shapely.box(min(x), min(y), max(x), max(y))


def _outline(grid: Grid, target: str) -> shapely.Polygon:
    """The outline of a tile in another reference system."""
    return _polygon(*_moved(grid, target))


def _degrees(grid: Grid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Longitudes and latitudes (WGS 84) of the outline of a tile; infinite where there is no transformation."""
    return _moved(grid, "EPSG:4326")


def _moved(grid: Grid, target: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    assert grid.crs is not None
    x, y = _transformer(grid.crs.to_wkt(), target).transform(*footprint(grid).exterior.coords.xy)
    return np.asarray(x), np.asarray(y)


def _middle(lon: npt.NDArray[np.float64]) -> float:
    """Mean longitude, also across the 180th meridian."""
    angles = np.exp(1j * np.radians(lon))
    return float(np.degrees(np.angle(angles.mean())))


def _polygon(x: npt.ArrayLike, y: npt.ArrayLike) -> shapely.Polygon:
    """The outline through points along the edges of a tile; empty if there is no transformation to one of them."""
    points = np.stack([np.asarray(x), np.asarray(y)], axis=1)
    outline = shapely.Polygon(points) if np.isfinite(points).all() else shapely.Polygon()
    return outline if outline.is_valid else outline.convex_hull


def _pixel_side(grid: Grid, outline: shapely.Polygon) -> float:
    """About the side of a pixel, in the units of an outline."""
    return float(np.sqrt(outline.area / (grid.width_px * grid.height_px)))


def _sides(grid: Grid) -> tuple[int, int]:
    return grid.width_px, grid.height_px


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


@lru_cache(maxsize=64)
def _system(wkt: str) -> tuple[pyproj.Geod | None, pyproj.Transformer | None, float]:
    """Ellipsoid, transformation to degrees on it, and metres per unit; a local system has neither of the first two."""
    system = pyproj.CRS.from_wkt(wkt)
    unit_m = system.axis_info[0].unit_conversion_factor if system.axis_info and not system.is_geographic else 1.0
    try:
        if system.geodetic_crs is None:
            return None, None, unit_m
        return system.get_geod(), pyproj.Transformer.from_crs(system, system.geodetic_crs, always_xy=True), unit_m
    except (CRSError, ProjError):
        return None, None, unit_m
