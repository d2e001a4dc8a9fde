"""Checkers of where tiles lie: reference systems, positions, sizes of pixels and of tiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np
from rasterio import Affine

from components.check.config import Subject
from components.check.findings import Finding, finding
from components.common.rasterfiles.grids import Grid
from components.common.rasterfiles.position import crs_name, parse_crs, same_crs
from components.common.readers.footprints import pixel_size_m

GSD_TOLERANCE = 0.05
"""A resolution may differ by this share, as rounded numbers do."""

OFF_SHARE = 0.1
"""A tile may lie this share of its side away from where its id puts it."""

ODD_AREA = 3.0
"""Tiles of one data set differ by less than this factor in area."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A tile whose position is known."""

    tile: str
    file: str
    grid: Grid  # with a transform

    @property
    def transform(self) -> Affine:
        """Pixel -> map."""
        assert self.grid.transform is not None
        return self.grid.transform


def placed(subject: Subject) -> dict[str, Placed]:
    """The tiles whose position is known."""
    return {
        tile: Placed(tile, facts.base_file, facts.grid)
        for tile, facts in subject.tiles.items()
        if facts.grid is not None and facts.grid.transform is not None
    }


def reference_systems(subject: Subject) -> Iterator[Finding]:
    """Tiles in another reference system than the configured one, or than most."""
    known = {tile: (facts.base_file, facts.grid.crs) for tile, facts in subject.tiles.items() if facts.grid}
    common = Counter(crs for _, crs in known.values() if crs).most_common(1)
    expected = parse_crs(subject.dataset.crs) if subject.dataset.crs else common[0][0] if common else None
    whose = "the configured one" if subject.dataset.crs else "that of most tiles"
    for tile, (file, crs) in known.items():
        if crs is not None and expected is not None and not same_crs(crs, expected):
            sentence = f"its reference system is {crs_name(crs)}, {whose} {crs_name(expected)}; the file's own is used"
            yield finding("crs-differs", sentence, tile, file)


def georeferences(subject: Subject) -> Iterator[Finding]:
    """Tiles whose position is unknown; one finding if it is unknown for all."""
    gone = [tile for tile, facts in subject.tiles.items() if facts.grid and facts.grid.transform is None]
    if gone and len(gone) == sum(facts.grid is not None for facts in subject.tiles.values()):
        yield finding("no-georeference", f"none of the {len(gone)} tiles states where it lies")
        return
    for tile in gone:
        facts = subject.tiles[tile]
        layer = "image" if facts.base == "image" else "DSM"
        sentence = f"neither the {layer} nor a world file states where it lies"
        yield finding("no-georeference", sentence, tile, facts.base_file)


def ground_sizes(subject: Subject) -> Iterator[Finding]:
    """Tiles whose pixels on the ground are not of the size that dataset.yaml states."""
    expected = subject.dataset.gsd_m
    for tile, place in placed(subject).items():
        size = pixel_size_m(place.grid)
        if size and max(abs(side / expected - 1) for side in size) > GSD_TOLERANCE:
            sentence = f"its pixels are {size[0]:.4g} x {size[1]:.4g} m on the ground, gsd_m is {expected:g} m"
            yield finding("gsd-differs", sentence, tile, place.file)


def places_by_id(subject: Subject) -> Iterator[Finding]:
    """Tiles that do not lie where the row and column in their id put them, relative to the other tiles."""
    if not {"{r}", "{c}"} <= {f"{{{part[0]}}}" for part in subject.dataset.image.files.split("{")[1:]}:
        return
    known, corners = placed(subject), {}
    for tile, place in known.items():
        row, column = (int(part) for part in tile.split("_"))
        grid, (x, y) = place.grid, place.transform @ (0.0, 0.0)
        wide, high = (np.array(place.transform @ corner) for corner in ((grid.width_px, 0.0), (0.0, grid.height_px)))
        corners[tile] = np.array([x, y]) - column * (wide - (x, y)) - row * (high - (x, y))
    if len(corners) < 3:
        return
    usual = np.median(list(corners.values()), axis=0)
    sides = {tile: p.grid.width_px * abs(p.transform.a) or 1.0 for tile, p in known.items()}
    away = {tile: float(np.abs(corner - usual).max()) for tile, corner in corners.items()}
    off = [tile for tile, metres in away.items() if metres > OFF_SHARE * sides[tile]]
    if len(off) * 2 < len(corners):  # otherwise the ids do not number a grid
        for tile in off:
            sentence = f"lies {away[tile]:.1f} m from where its row and column would put it next to the other tiles"
            yield finding("off-place", sentence, tile, known[tile].file)


def sizes(subject: Subject) -> Iterator[Finding]:
    """Tiles much larger or smaller than the others."""
    grids = {tile: facts.grid for tile, facts in subject.tiles.items() if facts.grid is not None}
    if len(grids) < 3:
        return
    usual = median(grid.width_px * grid.height_px for grid in grids.values())
    for tile, grid in grids.items():
        ratio = grid.width_px * grid.height_px / usual
        if not 1 / ODD_AREA < ratio < ODD_AREA:
            sentence = f"is {grid.width_px} x {grid.height_px} px, {ratio:.2g} times the usual area of a tile"
            yield finding("size-odd", sentence, tile, subject.tiles[tile].base_file)
