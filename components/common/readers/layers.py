"""A raster in rectangles of the grid of its tile's image: as it is, padded or cut at an edge, or warped.

What a layer does not cover is never invented: heights of padded edges repeat the edge, everything else is missing.
`Layer` gives pixels as the file holds them; `images.py`, `heights.py` and `labels.py` give them their meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import Resampling

from components.common.rasterfiles.grids import Fit, Grid
from components.common.rasterfiles.rasters import Mask, Pixels, RasterFile, Rejected, equal_to
from components.common.readers.warping import Warp

BAND_PX = 400_000
"""About so many pixels go through at once: few enough for the processor's cache, enough to make calls cheap."""

BAND_ROWS = 64
"""At least so many rows go through at once, however wide the tile: files may be packed in squares of pixels."""

Heights = npt.NDArray[np.float32]
Palette = dict[int, tuple[int, int, int, int]]
Convert = Callable[[Pixels, Mask | None, int, int], Heights]
"""Pixels `[H, W]`, where they are missing, and the row and column of the file at which they start -> heights."""


@dataclass(frozen=True, slots=True)
class Bands:
    """Which bands of a file are read, and which of their values mean "missing"."""

    numbers: tuple[int, ...]  # from 1
    nodata: tuple[tuple[float | None, ...], ...]  # missing is where all bands have one of these; None: has no say
    alpha: bool  # whether an alpha band in addition hides pixels
    palette: Palette | None  # of the only band: pixel -> RGBA, 0 = missing


def pick(
    file: RasterFile,
    numbers: tuple[int, ...] | None,
    expected: int,
    nodata: Sequence[Any] | None,
    example: str,
    fewer: str,
    *,
    alpha: bool = True,
    option: str | None = None,
) -> Bands:
    """Choose the bands to read.

    Args:
        file: the file.
        numbers: their numbers in dataset.yaml, from 1; None: all but an alpha band.
        expected: how many there must be; one that has a palette stands for three or four.
        nodata: values in dataset.yaml that mean "missing", instead of the value, colour or palette entry that the file
            states; None: as the file states.
        example: how to pick bands, for the message about a file that has more.
        fewer: what to do about a file that has fewer.
        alpha: whether an alpha band that is not picked hides pixels.
        option: what picks bands instead of dataset.yaml, for messages; None: dataset.yaml.

    Raises:
        Rejected: the file has too few bands, or more than are expected.
    """
    header = file.header
    count = f"{header.bands} band{'s' * (header.bands != 1)}"
    all_but_alpha = tuple(n for n in range(1, header.bands + 1) if n != header.alpha or header.bands == expected)
    picked = all_but_alpha if numbers is None else numbers
    by, correct = (option, "correct it") if option else ("dataset.yaml", "correct its `bands`")
    if max(picked) > header.bands:
        raise Rejected("band-count", f"has {count}, but {by} asks for band {max(picked)}; {correct}", file.path)
    if len(picked) != expected and not (len(picked) == 1 and header.palette and expected in (3, 4)):
        more = f"pick its bands{'' if option else ' in dataset.yaml'}, for example {example}"
        remedy = more if len(picked) > expected else fewer
        sentence = f"has {count}, expected {expected}; put the right file in its place, or {remedy}"
        if numbers is not None:
            sentence = f"{by} picks {len(picked)} of its {count}, expected {expected}; {correct}"
        raise Rejected("band-count", sentence, file.path)
    stated, palette = tuple(header.nodata[n - 1] for n in picked), header.palette
    marks: tuple[tuple[float | None, ...], ...] = () if stated == (None,) * len(stated) else (stated,)
    if nodata is not None:
        marks = tuple((float(value),) * len(picked) for value in nodata)
        palette = palette and {index: (*colour[:3], 255) for index, colour in palette.items()}
    return Bands(picked, marks, alpha and header.alpha not in (None, *picked), palette)


class Layer:
    """A raster on the grid of its tile's image."""

    def __init__(self, file: RasterFile, bands: Bands, place: Fit) -> None:
        """Wrap an open file."""
        self.file = file
        self.bands = bands
        self.fit = place
        self._warp = Warp(place, file.path) if place.offset is None else None

    def pixels(
        self, rows: slice, columns: slice | None = None, out: Pixels | None = None
    ) -> tuple[Pixels, Mask | None]:
        """Pixels of a rectangle of the image, `[B, h, w]`, and where there are none (None: nowhere).

        A warped layer gives the nearest pixels. Where there are none, pixels have any value.

        Args:
            rows: rows of the image.
            columns: columns of the image; None: all.
            out: array `[B, h, w]` to read into; used only if the layer covers the rectangle without a warp.
        """
        columns = self._columns(columns)
        if self._warp is not None:
            return self._warped_pixels(self._warp, rows, columns)
        down, right = self._spans(rows, columns)
        if down.covered and right.covered:
            return self._read(down.inside, right.inside, out)
        pixels_BHW, missing_HW = self._read(down.inside, right.inside)
        place = np.ix_(down.nearest, right.nearest)
        outside_hw = ~np.logical_and.outer(down.known, right.known)
        missing_hw = outside_hw if missing_HW is None else missing_HW[place] | outside_hw
        return np.stack([band_HW[place] for band_HW in pixels_BHW]), missing_hw

    def heights(self, rows: slice, convert: Convert, columns: slice | None = None) -> Heights:
        """Heights of a rectangle of the image, `[h, w]`, metres, NaN = not measured.

        A warp interpolates bilinearly between measured pixels.

        Args:
            rows: rows of the image.
            convert: turns pixels of the first band into heights.
            columns: columns of the image; None: all.
        """
        columns = self._columns(columns)
        if self._warp is not None:
            return self._warped_heights(self._warp, rows, columns, convert)
        down, right = self._spans(rows, columns)
        pixels_BHW, missing_HW = self._read(down.inside, right.inside)
        metres_HW = convert(pixels_BHW[0], missing_HW, down.inside.start, right.inside.start)
        if down.covered and right.covered:
            return metres_HW
        metres_hw = metres_HW[np.ix_(down.nearest, right.nearest)]
        if not self.fit.extended:
            metres_hw[~np.logical_and.outer(down.known, right.known)] = np.nan
        return metres_hw

    def _read(self, rows: slice, columns: slice, out: Pixels | None = None) -> tuple[Pixels, Mask | None]:
        pixels_BHW = self.file.read(self.bands.numbers, rows, columns, out)
        missing_HW = self.file.hidden(self.bands.numbers, rows, columns, alpha=self.bands.alpha)
        for values in self.bands.nodata:
            pairs = [(band, value) for band, value in zip(pixels_BHW, values, strict=True) if value is not None]
            marks = [mark for band_HW, value in pairs if (mark := equal_to(band_HW, value)) is not None]
            if len(marks) < len(pairs):
                continue
            marked_HW = np.logical_and.reduce(marks)
            if missing_HW is not None:
                missing_HW |= marked_HW
            elif marked_HW.any():
                missing_HW = marked_HW
        return pixels_BHW, missing_HW

    def _columns(self, columns: slice | None) -> slice:
        return slice(0, self.fit.image.width_px) if columns is None else columns

    def _spans(self, rows: slice, columns: slice) -> tuple[_Span, _Span]:
        assert self.fit.offset is not None
        down, right = self.fit.offset
        return _span(rows, down, self.fit.layer.height_px), _span(columns, right, self.fit.layer.width_px)

    def _warped_heights(self, warp: Warp, rows: slice, columns: slice, convert: Convert) -> Heights:
        parts = []
        for part, window in warp.parts(rows, columns):
            out_hw = np.full((part.stop - part.start, columns.stop - columns.start), np.nan, np.float32)
            if window is not None:
                pixels_BHW, missing_HW = self._read(*window)
                source_HW = convert(pixels_BHW[0], missing_HW, window[0].start, window[1].start)
                warp.fill(out_hw, (part, columns), source_HW, window, Resampling.bilinear, np.nan)
            parts.append(out_hw)
        return np.concatenate(parts)

    def _warped_pixels(self, warp: Warp, rows: slice, columns: slice) -> tuple[Pixels, Mask | None]:
        pictures, holes = [], []
        for part, window in warp.parts(rows, columns):
            size = part.stop - part.start, columns.stop - columns.start
            out_Bhw = np.zeros((len(self.bands.numbers), *size), self.file.header.dtypes[self.bands.numbers[0] - 1])
            covered_hw = np.zeros(size, np.uint8)
            if window is not None:
                pixels_BHW, missing_HW = self._read(*window)
                valid_HW = np.ones(pixels_BHW.shape[1:], np.uint8) if missing_HW is None else (~missing_HW).astype("u1")
                for source_HW, out_hw in [*zip(pixels_BHW, out_Bhw, strict=True), (valid_HW, covered_hw)]:
                    warp.fill(out_hw, (part, columns), source_HW, window, Resampling.nearest, None)
            pictures.append(out_Bhw)
            holes.append(covered_hw == 0)
        return np.concatenate(pictures, axis=1), np.concatenate(holes)


@dataclass(frozen=True, slots=True)
class _Span:
    """Rows, or columns, of the image that are asked for, in a file on the same grid."""

    inside: slice  # those of the file that are read
    covered: bool  # whether they are all that are asked for
    nearest: npt.NDArray[np.intp]  # for each that is asked for, the nearest of those that are read
    known: Mask  # whether the file has it


def _span(asked: slice, shift: int, size: int) -> _Span:
    """Rows or columns of a file of this size, which starts `-shift` pixels after the image."""
    index = np.arange(asked.start, asked.stop) + shift
    nearest = index.clip(0, size - 1)
    inside = slice(int(nearest[0]), int(nearest[-1]) + 1)
    known = index == nearest
    return _Span(inside, bool(known.all()), nearest - inside.start, known)


def bands_of(grid: Grid, multiple: int = 1) -> list[slice]:
    """All rows of a grid in bands of about `BAND_PX` pixels, each but the last a multiple of so many rows."""
    step = multiple * ceil(max(BAND_ROWS, BAND_PX // grid.width_px) / multiple)
    return [slice(first, min(first + step, grid.height_px)) for first in range(0, grid.height_px, step)]
