"""Combine the maps of parts into the complete map; its files equal those of one command, byte by byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import rasterio
from rasterio.windows import Window

from components.common.errors import DataError, reason
from components.common.readers.formats import GDAL_ERRORS
from components.predict.map_facts import MapFacts
from components.predict.map_layers import layer_path
from components.predict.maps import COUNTS
from components.predict.parts import Region
from components.predict.working import Counts, Working

STEP_PX = 512
"""Side of the blocks of a COG."""

WIDTH_PX = 8192
"""Pixels are copied in blocks of this width."""


@dataclass(frozen=True, slots=True)
class PartFile:
    """The map of a part."""

    path: Path
    facts: MapFacts
    counts: Counts


@contextmanager
def read_parts(paths: Sequence[Path], output: Path, *, restart: bool = False) -> Iterator[Working]:
    """Copy the pixels of all parts of a map into a working folder; `maps.draft_maps` then makes the files.

    Args:
        paths: class maps of the parts, in any order, each with the files of its further layers next to it.
        output: path of the complete class map.
        restart: discard earlier work on this output.

    Raises:
        DataError: a file is not a part of a map, a part is missing or given twice, or parts are of different maps.
    """
    parts = sorted((_part(path) for path in paths), key=lambda part: part.facts.part.number if part.facts.part else 0)
    _require_all(parts)
    blocks = {block.limits: part for part in parts for block in _columns(part.facts.here)}
    with Working.open(
        output, parts[0].facts.complete, [Region.of(limits) for limits in blocks], restart=restart
    ) as work:
        for limits, part in blocks.items():
            _copy(part, Region.of(limits), work)
        yield work


def _part(path: Path) -> PartFile:
    """Read what the class map of a part states, and check that the files of its other layers belong to it."""
    tags = _tags(path)
    facts = MapFacts.from_tags(path, tags)
    for name in facts.layers:
        other = layer_path(path, name)
        if _tags(other) != tags:
            raise DataError(f"{other}: this file belongs to another map than {path.name}; predict this part again")
    return PartFile(path, facts, Counts.parse(tags[COUNTS].split()))


def _tags(path: Path) -> Mapping[str, str]:
    try:
        with rasterio.open(path) as file:
            return {key: value for key, value in file.tags().items() if key != "AREA_OR_POINT"}
    except GDAL_ERRORS as error:
        raise DataError(f"{path}: cannot be opened ({reason(error)}); predict this part again") from None


def _require_all(parts: Sequence[PartFile]) -> None:
    """Check that these are all parts of one map, each once."""
    first = parts[0]
    identity = first.facts.complete.identity()
    for part in parts[1:]:
        other = part.facts.complete.identity()
        if differing := [name for name, value in identity.items() if other[name] != value]:
            raise DataError(
                f"{part.path}: this part has other {', '.join(differing)} than {first.path}; predict all parts with the "
                "same model, inputs and options"
            )
    assert first.facts.part is not None
    counts = {part.facts.part.count for part in parts if part.facts.part}
    if len(counts) > 1:
        raise DataError(f"the parts are of different divisions, into {' and '.join(map(str, sorted(counts)))} parts")
    count = first.facts.part.count
    found = Counter(part.facts.part.number for part in parts if part.facts.part)
    for what, numbers in (
        ("missing", [n for n in range(1, count + 1) if n not in found]),
        ("given more than once", [n for n, times in found.items() if times > 1]),
    ):
        if numbers:
            names = ", ".join(f"{n}/{count}" for n in numbers)
            raise DataError(
                f"{'part' if len(numbers) == 1 else 'parts'} {names} of the map {what}; give each part once"
            )


def _columns(region: Region) -> Iterator[Region]:
    """Blocks of a region, over all of its rows."""
    for start in range(region.columns.start, region.columns.stop, WIDTH_PX):
        yield Region(region.rows, slice(start, min(start + WIDTH_PX, region.columns.stop)))


def _copy(part: PartFile, block: Region, work: Working) -> None:
    """Copy the pixels of a block from the files of a part; counts are those of the part, added with its first block."""
    here = part.facts.here
    files = {name: rasterio.open(layer_path(part.path, name)) for name in part.facts.layers}
    for start in range(work.first_row(block), block.rows.stop, STEP_PX):
        rows = slice(start, min(start + STEP_PX, block.rows.stop))
        window = Window(
            block.columns.start - here.columns.start, start - here.rows.start, block.width_px, rows.stop - start
        )
        first = (rows.start, block.columns.start) == (here.rows.start, here.columns.start)
        work.write(
            block,
            rows,
            {name: file.read(window=window) for name, file in files.items()},
            part.counts if first else Counts(),
        )
    for file in files.values():
        file.close()
