"""Summary of a map as JSON: area per class, sensor coverage, seams and origin; described by `map_summary.schema.json`.

Areas are measured on the ground, block by block, because a pixel of Web Mercator or of a geographic reference system
has another size in the north than in the south.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from components.common.rasterfiles.grids import Grid
from components.common.rasterfiles.position import crs_name
from components.predict.outputs.ground_area import pixel_area_m2
from components.predict.outputs.map_facts import MapFacts
from components.predict.outputs.map_layers import NODATA, SENSORS, Pixels
from components.predict.outputs.parts import Region
from components.predict.outputs.seams import Seams
from components.predict.outputs.working import Tally

FORMAT = 1

BLOCK_PX = 1024
"""Pixels of a block of this side have one size on the ground."""


def summary(
    facts: MapFacts, bands: Iterable[tuple[slice, Pixels]], counts: Tally, seams: Seams, tags: dict[str, str]
) -> dict[str, Any]:
    """The summary of a map.

    Args:
        facts: of the map.
        bands: rows of the raster and their classes `[h, w]`, from top to bottom.
        counts: of the map.
        seams: of the map.
        tags: of its files.
    """
    grid = facts.here.grid(facts.grid)
    pixels, areas_m2 = _areas(facts, bands)
    with_class = int(pixels.sum())
    total_px = grid.height_px * grid.width_px
    return {
        "format": FORMAT,
        "classes": [
            {
                "name": name,
                "pixels": int(pixels[i]),
                "share": int(pixels[i]) / with_class if with_class else None,
                "area_m2": None if areas_m2 is None else round(float(areas_m2[i]), 3),
            }
            for i, name in enumerate(facts.classes)
        ],
        "sensors": {name: n / total_px for name, n in zip(SENSORS, counts.sensors, strict=True)},
        "seams": {
            "agreement": seams.agreement,
            "changes_on_lines": seams.on_lines,
            "changes_elsewhere": seams.elsewhere,
        },
        "raster": {
            "height_px": grid.height_px,
            "width_px": grid.width_px,
            "crs": None if grid.crs is None else crs_name(grid.crs),
            "bounds": _bounds(grid),
        },
        "model": {"name": facts.model, "version": facts.model_version, "sha256": facts.model_sha256},
        "data_md5": facts.data_md5,
        "inputs": facts.inputs,
        "given": list(facts.sensors),
        "settings": dict(facts.settings),
        "software": tags["TIFFTAG_SOFTWARE"],
    }


def _areas(
    facts: MapFacts, bands: Iterable[tuple[slice, Pixels]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64] | None]:
    """Pixels and square metres of each class; no areas without a position."""
    places, counts = [], []
    for block, classes_hw in _blocks(facts.here, bands):
        places.append(((block.columns.start + block.columns.stop) / 2, (block.rows.start + block.rows.stop) / 2))
        counts.append(np.bincount(classes_hw.ravel(), minlength=NODATA + 1)[: len(facts.classes)])
    x, y = np.array(places).T
    pixels = np.array(counts)
    areas_m2 = None if facts.grid.transform is None else pixel_area_m2(facts.grid, x, y) @ pixels
    return pixels.sum(0), areas_m2


def _blocks(here: Region, bands: Iterable[tuple[slice, Pixels]]) -> Iterator[tuple[Region, Pixels]]:
    """Blocks of at most `BLOCK_PX` rows and columns."""
    for rows, classes_hw in bands:
        for row in range(rows.start, rows.stop, BLOCK_PX):
            for column in range(here.columns.start, here.columns.stop, BLOCK_PX):
                block = Region(
                    slice(row, min(row + BLOCK_PX, rows.stop)),
                    slice(column, min(column + BLOCK_PX, here.columns.stop)),
                )
                top, left = row - rows.start, column - here.columns.start
                yield block, classes_hw[top : top + block.height_px, left : left + block.width_px]


def _bounds(grid: Grid) -> list[float] | None:
    """Left, bottom, right, top in the CRS of the map."""
    if grid.transform is None:
        return None
    corners = np.array([0, grid.width_px] * 2), np.array([0, 0, grid.height_px, grid.height_px])
    x, y = grid.transform @ corners
    return [float(min(x)), float(min(y)), float(max(x)), float(max(y))]
