"""Ground that a pixel covers, anywhere on a raster: measured along the ellipsoid, so no projection distorts it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyproj
from scipy.interpolate import RegularGridInterpolator

from components.common.rasterfiles.grids import Grid
from components.common.readers.footprints import pixel_size_m

NODES = 17
"""The size is measured at so many places in both directions of a raster, and interpolated between them."""

HALF_PX = 8.0
"""The size of a pixel is measured over so many pixels on both sides of a place."""

Values = npt.NDArray[np.float64]


def pixel_area_m2(grid: Grid, x: Values, y: Values) -> Values:
    """Ground that a pixel covers, square metres.

    Args:
        grid: position and size of the raster; without a reference system, its units are treated as metres.
        x: columns from the raster's left edge, pixels, `[n]`.
        y: rows from its upper edge, pixels, `[n]`.

    Returns:
        One value per place; 1 if the raster has no position.
    """
    if grid.transform is None:
        return np.ones(len(x))
    measured = _measured(grid)
    if measured is None:
        wide_m, high_m = pixel_size_m(grid) or (1.0, 1.0)
        return np.full(len(x), wide_m * high_m)
    return RegularGridInterpolator(_nodes(grid), measured)(np.stack([y, x], axis=1))


def _nodes(grid: Grid) -> tuple[Values, Values]:
    return np.linspace(0, grid.height_px, NODES), np.linspace(0, grid.width_px, NODES)


def _measured(grid: Grid) -> Values | None:
    """Ground of a pixel [NODES, NODES] at the nodes; None if the reference system has no place on the Earth."""
    assert grid.transform is not None
    if grid.crs is None:
        return None
    system = pyproj.CRS.from_wkt(grid.crs.to_wkt())
    geod = system.get_geod()
    if system.geodetic_crs is None or geod is None:
        return None
    to_degrees = pyproj.Transformer.from_crs(system, system.geodetic_crs, always_xy=True)
    y, x = np.meshgrid(*_nodes(grid), indexing="ij")
    length, azimuth = [], []
    for right, down in ((HALF_PX, 0), (0, HALF_PX)):
        ends = (to_degrees.transform(*(grid.transform @ (x + s * right, y + s * down))) for s in (-1, 1))
        (lon, lat), (to_lon, to_lat) = ends
        forward, _, metres = geod.inv(lon, lat, to_lon, to_lat)
        length.append(metres / (2 * HALF_PX))
        azimuth.append(np.radians(forward))
    found = np.abs(length[0] * length[1] * np.sin(azimuth[1] - azimuth[0]))
    return found if np.isfinite(found).all() else None
