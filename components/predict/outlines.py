"""Outlines of areas: straight borders between pixels -> polygons, for all areas at once.

Rings are traced with their area on the right-hand side. Where an area touches itself diagonally, at a corner of two
pixels, the trace turns left. So a ring never touches itself, and every polygon is valid. Vertices are the corners of an
outline and the points where three or more borders meet. Neighbours share all vertices of their common border, so the
polygons are a valid coverage.
Letters: e directed lines, two per border, one for the area on each side.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely
from rasterio import Affine

from components.predict.connected import Borders, Numbers

TURN_LEFT = 3
"""Directions are numbered clockwise: 0 right, 1 down, 2 left, 3 up."""


def outlines(borders: Borders, transform: Affine) -> tuple[Numbers, npt.NDArray[np.object_]]:
    """The areas that have borders, ascending, and their polygons in map coordinates, [n] each."""
    if not len(borders.x):
        return np.zeros(0, np.int64), np.zeros(0, np.object_)
    width = int(borders.x.max() + borders.length.max()) + 1
    area, start, end, direction = _directed(borders, width)
    vertices, both = np.unique(np.concatenate([start, end]), return_inverse=True)
    start, end = both[: len(start)], both[len(start) :]
    order = np.lexsort((direction, start, area))
    area, start, end, direction = area[order], start[order], end[order], direction[order]
    following = _following(area, start, end, direction, len(vertices))
    ring, position = _rings(following)
    order = np.lexsort((position, ring))
    corner = _corners(start, direction, following, _lines_at(borders, vertices, width))[order]
    order = order[corner]
    ring, start, area = ring[order], start[order], area[order]

    first = np.flatnonzero(np.diff(ring, prepend=-1))
    ends = np.append(first[1:], len(ring))
    closed = np.insert(start, ends, start[first])
    ring_offsets = np.append(0, ends + np.arange(1, len(ends) + 1))
    areas, first_ring = np.unique(area[first], return_index=True)
    x, y = transform @ ((vertices % width).astype(np.float64)[closed], (vertices // width).astype(np.float64)[closed])
    offsets = ring_offsets, np.append(first_ring, len(first))
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, np.stack([x, y], axis=1), offsets)
    return areas, shapely.orient_polygons(polygons)


def _directed(borders: Borders, width: int) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Area, start, end and direction of every line [e]; a place is `y * width + x`."""
    low = borders.y.astype(np.int64) * width + borders.x
    high = low + borders.length * np.where(borders.vertical, width, 1)
    forward = np.where(borders.vertical, borders.before, borders.after).astype(np.int64)  # on the right-hand side
    backward = np.where(borders.vertical, borders.after, borders.before).astype(np.int64)
    direction = borders.vertical.astype(np.int64)
    area, start, end = (np.concatenate(pair) for pair in ((forward, backward), (low, high), (high, low)))
    real = area > 0
    return area[real], start[real], end[real], np.concatenate([direction, direction + 2])[real]


def _following(area: Numbers, start: Numbers, end: Numbers, direction: Numbers, vertices: int) -> Numbers:
    """Index [e] of the line that follows on a ring; lines `[e]` are sorted by area, start and direction."""
    keys = (area * vertices + start) * 4 + direction
    place = (area * vertices + end) * 4
    left = place + (direction + TURN_LEFT) % 4
    found = np.searchsorted(keys, left)
    turned = keys[np.minimum(found, len(keys) - 1)] == left
    return np.where(turned, found, np.searchsorted(keys, place))


def _rings(following: Numbers) -> tuple[Numbers, Numbers]:
    """Ring of every line, named after its first line, and the position of the line on it, [e] each."""
    lines = np.arange(len(following))
    ring, hop = lines, following
    while np.any((nearer := np.minimum(ring, ring[hop])) != ring):  # twice as far in every round
        ring, hop = nearer, hop[hop]
    last = following == ring
    hop = np.where(last, lines, following)
    until_last = (~last).astype(np.int64)
    while np.any((further := hop[hop]) != hop):
        until_last, hop = until_last + until_last[hop], further
    return ring, -until_last


def _corners(start: Numbers, direction: Numbers, following: Numbers, lines_at: Numbers) -> npt.NDArray[np.bool_]:
    """Whether a line [e] begins at a vertex: it turns there, or more than two lines meet."""
    previous = np.empty_like(direction)
    previous[following] = direction
    return (previous != direction) | (lines_at[start] > 2)


def _lines_at(borders: Borders, vertices: Numbers, width: int) -> Numbers:
    """Number of borders that end at every vertex."""
    low = borders.y.astype(np.int64) * width + borders.x
    high = low + borders.length * np.where(borders.vertical, width, 1)
    return np.bincount(np.searchsorted(vertices, np.concatenate([low, high])), minlength=len(vertices))
