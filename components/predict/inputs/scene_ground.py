"""The ground under parts of a scene, in slabs: rows of cells ahead of what is asked for, as wide as that.

The ground of a cell depends on a limited neighbourhood, so it is read with that margin, and is exactly the ground that
a search in the complete raster finds. Memory depends on the width of the part, not on the raster.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from components.common.data.local_ground import (
    Ground,
    cell_size,
    cells_of,
    ground_of,
    radius_cells,
    reach_cells,
    square,
)

Metres = npt.NDArray[np.float32]

TILE_PX = 512
"""Cells are read in fixed squares of about this many pixels."""

ROWS, COLUMNS = 1, 3
"""How many cells are searched at once, in units of the margin around them: more is faster and takes more memory."""

KEPT_CELLS = 4_000_000
"""A raster with at most so many cells keeps all that were read, so that the margins of its slabs are read once."""


class SceneGround:
    """Finds the ground under parts of a scene."""

    def __init__(
        self, metres: Callable[[slice, slice], Metres], shape: tuple[int, int], gsd_m: float, radius_m: float
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            metres: gives heights `[h, w]` of rows and columns, metres, NaN = not measured.
            shape: rows and columns of the raster.
            gsd_m: ground size of a pixel, metres.
            radius_m: how far to look for ground, metres.
        """
        self._metres, self._shape = metres, shape
        self._cell_px, self._radius = cell_size(gsd_m), radius_cells(gsd_m, radius_m)
        self._reach, self._square = reach_cells(self._radius), square(self._radius)
        self._total = -(-shape[0] // self._cell_px), -(-shape[1] // self._cell_px)
        self._tile = max(1, TILE_PX // self._cell_px)  # side of a square that is read at once, cells
        self._tiles: dict[tuple[int, int], Metres] = {}
        self._slab: tuple[slice, slice, Ground] | None = None

    def over(self, rows: slice, columns: slice) -> Ground:
        """The ground under a part of the raster, or under more."""
        if self._slab is not None:
            known_rows, known_columns, ground = self._slab
            if _holds(known_rows, rows) and _holds(known_columns, columns):
                return ground
        self._slab = None
        ahead = rows.start + ROWS * self._reach * self._cell_px
        rows = slice(rows.start, min(max(rows.stop, ahead), self._shape[0]))
        ground = self._searched(self._cells_under(rows, 0), self._cells_under(columns, 1))
        self._slab = rows, columns, ground
        return ground

    def _cells_under(self, pixels: slice, axis: int) -> slice:
        """The cells between whose centres these rows or columns of pixels lie."""
        first, last = pixels.start // self._cell_px, (pixels.stop - 1) // self._cell_px
        return slice(max(first - 1, 0), min(last + 2, self._total[axis]))

    def _searched(self, rows: slice, columns: slice) -> Ground:
        """The ground of these cells, searched in parts that are small enough for the memory."""
        seen_rows, seen = self._with_margin(rows, 0), self._with_margin(columns, 1)
        cells = self._read(seen_rows, seen)
        found, step = [], COLUMNS * self._reach
        for first in range(columns.start, columns.stop, step):
            wanted = slice(first, min(first + step, columns.stop))
            around = self._with_margin(wanted, 1)
            ground = ground_of(cells[:, around.start - seen.start : around.stop - seen.start], self._radius)
            down, right = rows.start - seen_rows.start, first - around.start
            found.append(
                ground[down : down + rows.stop - rows.start, right : right + wanted.stop - wanted.start].copy()
            )
        return Ground(np.concatenate(found, axis=1), (rows.start, columns.start), self._total, self._cell_px)

    def _with_margin(self, cells: slice, axis: int) -> slice:
        first = max(0, cells.start - self._reach) // self._square * self._square
        return slice(first, min(cells.stop + self._reach, self._total[axis]))

    def _read(self, rows: slice, columns: slice) -> Metres:
        """Heights of cells, `[rows, columns]`; of a large raster, only the squares that hold them stay in memory."""
        side = self._tile
        down, right = (range(cells.start // side, -(-cells.stop // side)) for cells in (rows, columns))
        if self._total[0] * self._total[1] > KEPT_CELLS:
            self._tiles = {key: tile for key, tile in self._tiles.items() if key[0] in down and key[1] in right}
        lines = []
        for i in down:
            for key in ((i, j) for j in right):
                if key not in self._tiles:
                    self._tiles[key] = self._read_tile(*key)
            lines.append(np.concatenate([self._tiles[i, j] for j in right], axis=1))
        top, left = down.start * side, right.start * side
        return np.concatenate(lines)[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]

    def _read_tile(self, i: int, j: int) -> Metres:
        side_px = self._tile * self._cell_px
        rows, columns = (
            slice(k * side_px, min((k + 1) * side_px, size)) for k, size in zip((i, j), self._shape, strict=True)
        )
        return cells_of(self._metres(rows, columns), self._cell_px)


def _holds(known: slice, wanted: slice) -> bool:
    return bool(known.start <= wanted.start and wanted.stop <= known.stop)
