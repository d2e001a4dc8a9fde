"""Combine the maps of parts into the complete map; its files equal those of one command, byte by byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import rasterio
from rasterio.windows import Window

from components.common.errors import DataError, reason
from components.common.rasterfiles.formats import GDAL_ERRORS
from components.predict.config import Restart
from components.predict.outputs.map_facts import MapFacts
from components.predict.outputs.map_layers import Pixels, layer_path
from components.predict.outputs.maps import COUNTS, opened
from components.predict.outputs.parts import Region
from components.predict.outputs.working import Tally, Working

STEP_PX = 512
"""Side of the blocks of a COG."""

WIDTH_PX = 8192
"""Pixels are copied in blocks of this width."""


@dataclass(frozen=True, slots=True)
class PartFile:
    """The map of a part."""

    path: Path
    facts: MapFacts
    counts: Tally


@contextmanager
def read_parts(paths: Sequence[Path], output: Path, *, restart: Restart = "no") -> Iterator[Working]:
    """Copy the pixels of all parts of a map into a working folder; `maps.draft_maps` then makes the files.

    Args:
        paths: class maps of the parts, in any order, each with the files of its further layers next to it.
        output: path of the complete class map.
        restart: whether to discard earlier work on this output.

    Raises:
        DataError: a file is not a part of a map, a part is missing or given twice, or parts are of different maps.
    """
    parts = sorted((_part(path) for path in paths), key=lambda part: part.facts.part.number if part.facts.part else 0)
    _require_all(parts)
    blocks = [(part, block) for part in parts for block in _columns(part.facts.here)]
    facts = parts[0].facts.complete
    with Working.open(output, facts, [block for _, block in blocks], restart=restart) as working:
        for part, block in blocks:
            _copy(part, block, working)
        yield working


def _part(path: Path) -> PartFile:
    """Read what the class map of a part states, and check that the files of its other layers belong to it."""
    tags = _tags(path)
    facts = MapFacts.from_tags(path, tags)
    for name in facts.layers:
        other = layer_path(path, name)
        if _tags(other) != tags:
            raise DataError(f"{other}: this file belongs to another map than {path.name}; predict this part again")
    return PartFile(path, facts, Tally.parse([int(number) for number in tags[COUNTS].split()]))


def _tags(path: Path) -> Mapping[str, str]:
    try:
        with opened(path) as file:
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
                f"{part.path}: this part has other {', '.join(differing)} than {first.path}; predict all parts with "
                "the same model, inputs and options"
            )
    assert first.facts.part is not None
    counts = {part.facts.part.count for part in parts if part.facts.part}
    if len(counts) > 1:
        raise DataError(f"the parts are of different divisions, into {' and '.join(map(str, sorted(counts)))} parts")
    count = first.facts.part.count
    found = Counter(part.facts.part.number for part in parts if part.facts.part)
    missing = [number for number in range(1, count + 1) if number not in found]
    double = [number for number, times in found.items() if times > 1]
    for numbers, what in ((missing, "missing"), (double, "given more than once")):
        if numbers:
            names = ", ".join(f"{number}/{count}" for number in numbers)
            raise DataError(f"part {names} of the map is {what}; give each of the {count} parts once")


def _columns(region: Region) -> Iterator[Region]:
    """Blocks of a region, over all of its rows."""
    for start in range(region.columns.start, region.columns.stop, WIDTH_PX):
        yield Region(region.rows, slice(start, min(start + WIDTH_PX, region.columns.stop)))


def _copy(part: PartFile, block: Region, working: Working) -> None:
    """Copy the pixels of a block; its first block carries the counts of a part."""
    here = part.facts.here
    with ExitStack() as stack:
        paths = {name: layer_path(part.path, name) for name in part.facts.layers}
        files = {name: stack.enter_context(opened(path)) for name, path in paths.items()}
        for start in range(working.first_row(block), block.rows.stop, STEP_PX):
            rows = slice(start, min(start + STEP_PX, block.rows.stop))
            left, top = block.columns.start - here.columns.start, start - here.rows.start
            window = Window(left, top, block.width_px, rows.stop - start)
            pixels = {name: _read(paths[name], file, window) for name, file in files.items()}
            working.write(block, rows, pixels, part.counts if left == top == 0 else Tally())


def _read(path: Path, file: rasterio.DatasetReader, window: Window) -> Pixels:
    try:
        return file.read(window=window)
    except GDAL_ERRORS as error:
        raise DataError(f"{path}: cannot be read ({reason(error)}); predict this part again") from None
