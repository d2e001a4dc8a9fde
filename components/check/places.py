"""Checkers of where things lie: layers on their image, tiles on the map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, radians
from pathlib import Path
from statistics import median

import numpy as np
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.warp import transform

from components.check.config import Subject
from components.check.facts import FileFacts, TileFacts
from components.check.findings import Finding, finding
from components.common.data.datasets import FileKind
from components.common.errors import DataError
from components.common.readers.grids import GridError, grid_of, padding
from components.common.readers.rasters import GDAL_ERRORS, Grid, parse_crs, same_crs

MAX_PAD_PX = 8
"""A layer that lacks more at an edge is another file, cut elsewhere; params.yaml has the same number for preprocess."""

GSD_TOLERANCE = 0.05
"""A resolution may differ by this share: rounded numbers, and the scale of a map projection."""

OFF_SHARE = 0.1
"""A tile may lie this share of its side away from where its id says."""

LEAST_COVERED = 0.5
"""A layer that covers less of its image is of another place."""

DEGREE_M = 111_320.0
"""Length of a degree of latitude."""

ODD_AREA = 3.0
"""Tiles of one data set differ by less than this factor in area."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A tile whose place is known."""

    tile: str
    file: str
    grid: Grid  # with a transform

    @property
    def transform(self) -> Affine:
        """Pixel -> map."""
        assert self.grid.transform is not None
        return self.grid.transform


def placed(subject: Subject) -> dict[str, Placed]:
    """The tiles of which some file says where they lie."""
    found = {}
    for tile, facts in subject.tiles.items():
        grid = _tile_grid(subject, facts)
        if grid is not None and grid.transform is not None:
            found[tile] = Placed(tile, facts.places["image"], grid)
    return found


def layers(subject: Subject) -> Iterator[Finding]:
    """Layers that are not on the grid of their image."""
    for tile, facts in subject.tiles.items():
        image = _tile_grid(subject, facts)
        for kind in ("dsm", "label", "eroded"):
            header = facts.files.get(kind)
            if image is None or header is None:
                continue
            place = facts.places[kind]
            try:
                lacks = padding(Path(place), _grid(header), image, MAX_PAD_PX)
            except GridError as error:
                why = str(error).removeprefix(f"{place}: ")
                if subject.own:
                    yield _elsewhere(why, _grid(header), image, kind, (tile, place))
                else:
                    yield finding("grid-mismatch", f"{why}: check that both files are of this tile", tile, place)
                continue
            if lacks:
                how = "by repeating the edge" if kind == "dsm" else "with ignored pixels"
                yield finding("padded", f"lacks {lacks}; padded {how}", tile, place)


def _elsewhere(why: str, layer: Grid, image: Grid, kind: FileKind, where: tuple[str, str]) -> Finding:
    """A layer of own data on another grid: warped if both sides say where they are and it lies where the image is."""
    covered = covered_share(layer, image)
    if covered is None:
        return finding("grid-mismatch", f"{why}: check that both files are of this tile", *where)
    if covered < LEAST_COVERED:
        return finding("grid-mismatch", f"{why}, and covers {100 * covered:.0f} % of the image: another place?", *where)
    code = "warped" if kind == "dsm" else "label-warped"
    return finding(code, f"{why}; warped onto the image's grid", *where)


def reference_systems(subject: Subject) -> Iterator[Finding]:
    """Images without a reference system, or in another one than the rest."""
    said = {tile: facts.files["image"].crs for tile, facts in subject.tiles.items() if "image" in facts.files}
    common = Counter(crs for crs in said.values() if crs).most_common(1)
    expected = subject.dataset.crs or (common[0][0] if common else None)
    for tile, crs in said.items():
        facts = subject.tiles[tile]
        if crs is None and subject.dataset.crs is None and _dsm_crs(facts) is None:
            sentence = "no file of the tile has a reference system, and dataset.yaml names none; set data.crs"
            yield finding("crs-missing", sentence, tile, facts.places["image"])
        elif crs is not None and expected is not None and not _same(crs, expected):
            whose = "the data set's" if subject.dataset.crs else "that of most tiles"
            sentence = f"its reference system is {_short(crs)}, {whose} {expected}; the file's own is used"
            yield finding("crs-differs", sentence, tile, facts.places["image"])


def georeferences(subject: Subject) -> Iterator[Finding]:
    """Tiles of which no file says where they lie."""
    tiles = [tile for tile, facts in subject.tiles.items() if "image" in facts.files]
    known = placed(subject)
    gone = [tile for tile in tiles if tile not in known]
    sentence = "no file says where it lies: add the world files, or maps made of it have no place"
    if gone and len(gone) == len(tiles):
        every = f"no file of the {len(gone)} tiles says where they lie: add the world files, or maps have no place"
        yield finding("no-georeference", every)
        return
    for tile in gone:
        yield finding("no-georeference", sentence, tile, subject.tiles[tile].places["image"])


def ground_sizes(subject: Subject) -> Iterator[Finding]:
    """Images whose pixels are not of the size that the data set says."""
    expected = subject.dataset.gsd_m
    for tile, facts in subject.tiles.items():
        header = facts.files.get("image")
        size = _pixel_metres(header, subject.dataset.crs) if header else None
        if size and max(abs(side / expected - 1) for side in size) > GSD_TOLERANCE:
            sentence = (
                f"its pixels are {size[0]:.6g} x {size[1]:.6g} m, the data set's {expected:g} m; resample the tile, or "
                "mend gsd_m in dataset.yaml"
            )
            yield finding("gsd-differs", sentence, tile, facts.places["image"])


def places_by_id(subject: Subject) -> Iterator[Finding]:
    """Tiles that lie elsewhere than the row and column in their id say, judged by the other tiles."""
    if not {"{r}", "{c}"} <= {f"{{{part[0]}}}" for part in subject.dataset.image.files.split("{")[1:]}:
        return
    corners = {}
    for tile, place in placed(subject).items():
        row, column = (int(part) for part in tile.split("_"))
        grid, (x, y) = place.grid, place.transform @ (0.0, 0.0)
        wide, high = (np.array(place.transform @ corner) for corner in ((grid.width_px, 0.0), (0.0, grid.height_px)))
        corners[tile] = np.array([x, y]) - column * (wide - (x, y)) - row * (high - (x, y))
    if len(corners) < 3:
        return
    usual = np.median(list(corners.values()), axis=0)
    sides = {tile: p.grid.width_px * abs(p.transform.a) or 1.0 for tile, p in placed(subject).items()}
    away = {tile: float(np.abs(corner - usual).max()) for tile, corner in corners.items()}
    off = [tile for tile, metres in away.items() if metres > OFF_SHARE * sides[tile]]
    if len(off) * 2 < len(corners):  # otherwise the ids number no grid
        for tile in off:
            sentence = f"lies {away[tile]:.1f} m from where row and column in its id say, going by the other tiles"
            yield finding("off-place", sentence, tile, subject.tiles[tile].places["image"])


def sizes(subject: Subject) -> Iterator[Finding]:
    """Images much larger or smaller than the others."""
    headers = {tile: facts.files["image"] for tile, facts in subject.tiles.items() if "image" in facts.files}
    if len(headers) < 3:
        return
    usual = median(header.width_px * header.height_px for header in headers.values())
    for tile, header in headers.items():
        ratio = header.width_px * header.height_px / usual
        if not 1 / ODD_AREA < ratio < ODD_AREA:
            sentence = f"is {header.width_px} x {header.height_px} px, {ratio:.2g} times the usual area of the tiles"
            yield finding("size-odd", sentence, tile, header.path)


def covered_share(layer: Grid, image: Grid) -> float | None:
    """Share of an image that another file covers, by its corners; None where a georeference is missing."""
    if layer.transform is None or image.transform is None:
        return None
    corners = [layer.transform @ (x, y) for x in (0.0, layer.width_px) for y in (0.0, layer.height_px)]
    if layer.crs and image.crs and not same_crs(layer.crs, image.crs):
        try:
            corners = list(zip(*transform(layer.crs, image.crs, *zip(*corners, strict=True)), strict=True))
        except GDAL_ERRORS:  # no way leads from the one to the other
            return 0.0
    on_image = np.array([~image.transform @ corner for corner in corners])
    if not np.isfinite(on_image).all():
        return 0.0
    sides = np.minimum(on_image.max(0), (image.width_px, image.height_px)) - on_image.min(0).clip(0)
    return float(sides.clip(0).prod() / (image.width_px * image.height_px))


def _tile_grid(subject: Subject, facts: TileFacts) -> Grid | None:
    """The grid of a tile as preprocess sees it; None where the image cannot be opened."""
    if "image" not in facts.files:
        return None
    image = _grid(facts.files["image"])
    dsm = _grid(facts.files["dsm"]) if "dsm" in facts.files else image
    return grid_of(image, dsm, _crs(subject.dataset.crs))


def _pixel_metres(header: FileFacts, default_crs: str | None) -> tuple[float, float] | None:
    """Width and height of a pixel, metres; None where the file does not say where it lies."""
    if header.resolution is None or header.transform is None:
        return None
    wide, high = header.resolution
    crs = _crs(header.crs or default_crs)
    if crs is None or not crs.is_geographic:
        factor = crs.linear_units_factor[1] if crs and crs.is_projected else 1.0
        return wide * factor, high * factor
    return wide * DEGREE_M * cos(radians(header.transform[5])), high * DEGREE_M


def _grid(header: FileFacts) -> Grid:
    transform = None if header.transform is None else Affine(*header.transform)
    return Grid(header.height_px, header.width_px, transform, _crs(header.crs))


def _crs(text: str | None) -> CRS | None:
    return None if text is None else parse_crs(text)


def _same(one: str, other: str) -> bool:
    try:
        return same_crs(parse_crs(one), parse_crs(other))
    except DataError:
        return one == other


def _dsm_crs(facts: TileFacts) -> str | None:
    return facts.files["dsm"].crs if "dsm" in facts.files else None


def _short(crs: str) -> str:
    return crs if len(crs) < 40 else "another one without an EPSG code"
