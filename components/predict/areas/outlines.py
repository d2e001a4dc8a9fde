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

from components.predict.areas.connected import Borders, Numbers

TURN_LEFT = 3
"""Directions are numbered clockwise: 0 right, 1 down, 2 left, 3 up."""

LINES_AT_ONCE = 1_000_000
"""Areas with about so many lines together are traced at once, about 200 MB."""


def outlines(
    borders: Borders, transform: Affine, lines_at_once: int = LINES_AT_ONCE
) -> tuple[Numbers, npt.NDArray[np.object_]]:
    """The areas that have borders, ascending, and their polygons in map coordinates, [n] each.

    Args:
        borders: of all areas.
        transform: pixel -> map.
        lines_at_once: changes memory and speed, not the result.
    """
    if not len(borders.x):
        return np.zeros(0, np.int64), np.zeros(0, np.object_)
    width = int(borders.x.max() + borders.length.max()) + 1
    ends, lines = np.unique(np.concatenate(_ends(borders, width)), return_counts=True)
    meeting = ends[lines > 2]
    group = _groups(borders, lines_at_once)
    before, after = group[borders.before], group[borders.after]
    found = []
    for number in range(int(group.max()) + 1):
        some = borders.where((before == number) | (after == number))
        found.append(_polygons(_directed(some, width, group == number), meeting, width, transform))
    return np.concatenate([areas for areas, _ in found]), np.concatenate([shapes for _, shapes in found])


def _groups(borders: Borders, lines_at_once: int) -> Numbers:
    """Areas in groups of about so many lines: the group [n] of every area; -1 for nodata."""
    both = np.concatenate([borders.before, borders.after])
    lines = np.bincount(both)
    lines[0] = 0
    group = (np.cumsum(lines) - lines) // lines_at_once
    group = np.unique(group, return_inverse=True)[1]
    group[0] = -1
    return group


def _polygons(
    lines: tuple[Numbers, Numbers, Numbers, Numbers], meeting: Numbers, width: int, transform: Affine
) -> tuple[Numbers, npt.NDArray[np.object_]]:
    """Areas and polygons [n] of directed lines, which are complete for these areas."""
    area, start, end, direction = lines
    vertices, both = np.unique(np.concatenate([start, end]), return_inverse=True)
    start, end = both[: len(start)], both[len(start) :]
    order = np.lexsort((direction, start, area))
    area, start, end, direction = area[order], start[order], end[order], direction[order]
    following = _following(area, start, end, direction, len(vertices))
    ring, position = _rings(following)
    order = np.lexsort((position, ring))
    order = order[(_turns(direction, following) | np.isin(vertices, meeting)[start])[order]]
    ring, start, area = ring[order], start[order], area[order]

    first = np.flatnonzero(np.diff(ring, prepend=-1))
    ends = np.append(first[1:], len(ring))
    closed = vertices[np.insert(start, ends, start[first])]
    areas, first_ring = np.unique(area[first], return_index=True)  # the first ring of an area is its outline
    x, y = transform @ ((closed % width).astype(np.float64), (closed // width).astype(np.float64))
    offsets = np.append(0, ends + np.arange(1, len(ends) + 1)), np.append(first_ring, len(first))
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, np.stack([x, y], axis=1), offsets)
    return areas, shapely.orient_polygons(polygons)


def _ends(borders: Borders, width: int) -> tuple[Numbers, Numbers]:
    """Both ends of every border, as places: `y * width + x`."""
    low = borders.y.astype(np.int64) * width + borders.x
    return low, low + borders.length * np.where(borders.vertical, width, 1)


def _directed(borders: Borders, width: int, wanted: npt.NDArray[np.bool_]) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Area, start, end and direction of the lines [e] around the wanted areas [n]."""
    low, high = _ends(borders, width)
    forward = np.where(borders.vertical, borders.before, borders.after).astype(np.int64)  # on the right-hand side
    backward = np.where(borders.vertical, borders.after, borders.before).astype(np.int64)
    direction = borders.vertical.astype(np.int64)
    area, start, end = (np.concatenate(pair) for pair in ((forward, backward), (low, high), (high, low)))
    chosen = wanted[area]
    return area[chosen], start[chosen], end[chosen], np.concatenate([direction, direction + 2])[chosen]


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


def _turns(direction: Numbers, following: Numbers) -> npt.NDArray[np.bool_]:
    """Whether a line [e] has another direction than the one before it."""
    previous = np.empty_like(direction)
    previous[following] = direction
    return previous != direction
