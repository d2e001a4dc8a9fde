"""Several rasters of one kind as one, without a copy: each window is put together from the files that lie there.

Later files lie on top. A pixel that a file marks as missing shows the file below; what no file covers is missing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from components.common.rasterfiles.headers import MAX_SIDE_PX, Header
from components.common.rasterfiles.position import NO_CRS, NOTED_SHIFT_PX, crs_name, position_of, same_crs, stated_crs
from components.common.rasterfiles.rasters import Mask, Note, Pixels, Place, RasterFile, Rejected, equal_to

MOST_OPEN = 64
"""Files that are open at the same time."""

THREADS = 16
"""Headers that are read at the same time, so that many remote files open quickly."""

MAX_SHIFT_PX = 0.501
"""Pixels of a file may lie so far off the grid of the first file; half a pixel is the most for the same pixel size."""

REMEDY = "a mosaic needs files of one kind: convert this one, or leave it out"

Opener = Callable[[str], AbstractContextManager[RasterFile]]


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a mosaic."""

    name: str
    place: Place
    header: Header
    transform: Affine
    crs: CRS | None

    @property
    def facts(self) -> dict[str, Any]:
        """What must be equal for all files, by what it is called."""
        header = self.header
        return {
            "number of bands": header.bands,
            "pixel type": "/".join(dict.fromkeys(header.dtypes)),
            "alpha band": header.alpha or "none",
            "scale": "/".join(f"{scale:g}" for scale in dict.fromkeys(header.scales)),
            "offset": "/".join(f"{offset:g}" for offset in dict.fromkeys(header.offsets)),
            "unit": "/".join(dict.fromkeys(unit or "none" for unit in header.units)),
            "colour table": header.palette,
        }


def open_mosaic(names: Sequence[str], opener: Opener, stack: ExitStack) -> RasterFile:
    """Open several files as one raster; no pixel is read yet.

    Args:
        names: the files, the lowest first.
        opener: opens one of them.
        stack: closes them.

    Raises:
        Rejected: a file is unreadable or has no position, or two files contradict each other.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        members = list(pool.map(lambda name: _member(name, opener), names))
    first, places, shift_px = members[0], list[tuple[int, int]](), 0.0
    for member in members:
        _require_like(first, member)
        row, column, off_px = _offset(first, member)
        places.append((row, column))
        shift_px = max(shift_px, off_px)
    tops, lefts = np.array(places).T
    tops, lefts, top, left = tops - tops.min(), lefts - lefts.min(), int(tops.min()), int(lefts.min())
    height_px = int(max(tops + [member.header.height_px for member in members]))
    width_px = int(max(lefts + [member.header.width_px for member in members]))
    name = f"{first.place} and {len(members) - 1} other file{'s' * (len(members) > 2)}"
    if max(height_px, width_px) > MAX_SIDE_PX:
        sentence = f"the mosaic would have {width_px:,} x {height_px:,} px; check the positions of the files"
        raise Rejected("mosaic-size", sentence, name)
    notes = [Note("mosaic", f"a mosaic of {len(members)} files, {width_px} x {height_px} px")]
    if shift_px > NOTED_SHIFT_PX:
        sentence = f"files lie up to {shift_px:.2f} px off the grid of the first one; read as they are"
        notes.append(Note("grid-shift", sentence))
    common = len({str(member.header.nodata) for member in members}) == 1
    header = replace(
        first.header,
        driver="mosaic",
        height_px=height_px,
        width_px=width_px,
        transform=first.transform @ Affine.translation(left, top),
        crs=first.crs,
        gcps=(),
        gcps_crs=None,
        nodata=first.header.nodata if common else (None,) * first.header.bands,
        masks=(1,) * first.header.bands,
        unwritten_share=0.0,
    )
    mosaic = Mosaic(members, tops, lefts, header, opener)
    stack.callback(mosaic.close)
    return RasterFile(name, header, mosaic, notes)


class Mosaic:
    """Windows of a mosaic."""

    def __init__(
        self,
        members: Sequence[Member],
        tops: npt.NDArray[np.int64],
        lefts: npt.NDArray[np.int64],
        header: Header,
        opener: Opener,
    ) -> None:
        """Start without an open file; `tops` and `lefts` are the first row and column of each file, `[N]`."""
        self._members, self._tops, self._lefts = members, tops, lefts
        self._ends = tops + [one.header.height_px for one in members], lefts + [one.header.width_px for one in members]
        self._header, self._opener = header, opener
        self._open: OrderedDict[int, tuple[ExitStack, RasterFile]] = OrderedDict()
        self._last: tuple[Window, Pixels, Pixels] | None = None
        self._fill = np.array([[[value or 0]] for value in header.nodata]).astype(header.dtypes[0])

    def read(self, indexes: Any, window: Window, out: Pixels | None = None) -> Pixels:
        """Pixels of one band `[h, w]`, or of a list of bands `[bands, h, w]`."""
        numbers = [indexes] if isinstance(indexes, int) else list(indexes)
        pixels_BHW = self._composed(window)[0][[number - 1 for number in numbers]]
        if out is not None:
            out[...] = pixels_BHW
            return out
        return pixels_BHW[0] if isinstance(indexes, int) else pixels_BHW

    def read_masks(self, indexes: int, window: Window) -> Pixels:
        """Mask of the mosaic, `[h, w]`; 0 where no file has a pixel."""
        return self._composed(window)[1]

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1][0].close()

    def _composed(self, window: Window) -> tuple[Pixels, Pixels]:
        """All bands of a window `[B, H, W]`, and its mask `[H, W]`; kept for the next call."""
        if self._last is None or self._last[0] != window:
            self._last = (window, *self._compose(window))
        return self._last[1:]

    def _compose(self, window: Window) -> tuple[Pixels, Pixels]:
        top, left, height, width = window.row_off, window.col_off, window.height, window.width
        pixels_BHW = np.empty((self._header.bands, height, width), self._header.dtypes[0])
        pixels_BHW[...] = self._fill
        shown_HW, mask_HW = np.zeros((height, width), np.bool_), np.zeros((height, width), np.uint8)
        for index in self._under(top, left, top + height, left + width):
            first_row, first_column = int(self._tops[index]) - top, int(self._lefts[index]) - left
            header = self._members[index].header
            rows = slice(max(first_row, 0), min(first_row + header.height_px, height))
            columns = slice(max(first_column, 0), min(first_column + header.width_px, width))
            inside = _moved(rows, -first_row), _moved(columns, -first_column)
            part_BHW, marked_HW, hidden_HW = self._part(index, *inside)
            # a marked pixel lies below all others: it counts only where no other file has one
            used_HW = ~marked_HW | ~shown_HW[rows, columns]
            np.copyto(pixels_BHW[:, rows, columns], part_BHW, where=used_HW)
            np.copyto(mask_HW[rows, columns], np.where(hidden_HW, 0, 255).astype(np.uint8), where=used_HW)
            shown_HW[rows, columns] |= ~marked_HW
        return pixels_BHW, mask_HW

    def _part(self, index: int, rows: slice, columns: slice) -> tuple[Pixels, Mask, Mask]:
        """Pixels of a file, where it marks them as missing in any way, and where the mask must say so, `[H, W]`."""
        file, numbers = self._file(index), range(1, self._header.bands + 1)
        pixels_BHW = file.read(numbers, rows, columns)
        masked_HW = file.hidden(numbers, rows, columns, alpha=False)
        hidden_HW = np.zeros(pixels_BHW.shape[1:], np.bool_) if masked_HW is None else masked_HW
        marked_HW = hidden_HW.copy()
        if (alpha := file.header.alpha) is not None:
            marked_HW |= pixels_BHW[alpha - 1] == 0
        nodata_HW = _equal_to_nodata(pixels_BHW, file.header)
        if nodata_HW is not None:
            marked_HW |= nodata_HW
            if self._header.nodata != file.header.nodata and str(self._header.nodata) != str(file.header.nodata):
                hidden_HW = hidden_HW | nodata_HW
        return pixels_BHW, marked_HW, hidden_HW

    def _under(self, top: int, left: int, bottom: int, right: int) -> list[int]:
        """Files under a window, the lowest first."""
        inside = (self._tops < bottom) & (self._lefts < right) & (self._ends[0] > top) & (self._ends[1] > left)
        return [int(index) for index in np.flatnonzero(inside)]

    def _file(self, index: int) -> RasterFile:
        if index not in self._open:
            while len(self._open) >= MOST_OPEN:
                self._open.popitem(last=False)[1][0].close()
            with ExitStack() as stack:
                file = stack.enter_context(self._opener(self._members[index].name))
                self._open[index] = stack.pop_all(), file
        self._open.move_to_end(index)
        return self._open[index][1]


def _member(name: str, opener: Opener) -> Member:
    with opener(name) as file:
        transform = position_of(file, NO_CRS).transform  # any CRS: an unknown one is reported for the mosaic
        if transform is None:
            raise Rejected("mosaic-position", "has no position, which a mosaic needs; add a world file", file.path)
        return Member(name, file.path, file.header, transform, stated_crs(file))


def _require_like(first: Member, member: Member) -> None:
    for what, expected in first.facts.items():
        if (given := member.facts[what]) != expected:
            shown = f"its {what} is {given}, that of {first.place} is {expected}"
            shown = f"its colour table is not that of {first.place}" if what == "colour table" else shown
            raise Rejected("mosaic-differs", f"{shown}; {REMEDY}", member.place)
    if first.crs is None and member.crs is None:
        return
    if first.crs is None or member.crs is None or not same_crs(first.crs, member.crs):
        given, expected = ("none" if one.crs is None else crs_name(one.crs) for one in (member, first))
        shown = f"its reference system is {given}, that of {first.place} is {expected}"
        raise Rejected("mosaic-differs", f"{shown}; {REMEDY}", member.place)


def _offset(first: Member, member: Member) -> tuple[int, int, float]:
    """Row and column of a file's first pixel in the grid of the first file, and how far its corners lie off it, px."""
    to_first: Affine = ~first.transform @ member.transform
    column, row = (round(shift) for shift in to_first @ (0.0, 0.0))
    corners = [(x, y) for x in (0, member.header.width_px) for y in (0, member.header.height_px)]
    off = [np.subtract(to_first @ corner, (corner[0] + column, corner[1] + row)) for corner in corners]
    off_px = float(np.abs(off).max())
    if off_px > MAX_SHIFT_PX:
        sizes = [f"{abs(one.transform.a):g} x {abs(one.transform.e):g}" for one in (member, first)]
        shown = f"its pixels ({sizes[0]}) have another size or orientation than those of {first.place} ({sizes[1]})"
        raise Rejected("mosaic-differs", f"{shown}; {REMEDY}", member.place)
    return row, column, off_px


def _equal_to_nodata(pixels_BHW: Pixels, header: Header) -> Mask | None:
    """True where all bands have the nodata value of a file, `[H, W]`; None: it has none."""
    pairs = [pair for n, pair in enumerate(zip(pixels_BHW, header.nodata, strict=True), 1) if n != header.alpha]
    marks = [equal_to(band_HW, value) for band_HW, value in pairs if value is not None]
    found = [mark for mark in marks if mark is not None]
    return np.logical_and.reduce(found) if found and len(found) == len(marks) else None


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
