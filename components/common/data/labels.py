"""Label pictures -> class numbers: by colour, tolerant of what a lossy re-encoding has moved, or by value.

In: `[B, H, W]` as a file holds it, whole or any part of it. Out: `[H, W]` uint8 with classes 0..K-1 and 255 = ignore.
Whatever stands for no class is ignored and counted as unknown; it never becomes a class.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.common.data.datasets import IGNORE, Dataset
from components.common.errors import DataError

TOLERANCE = 8
"""How far each channel may be from a colour that is no corner of the colour cube; less where two colours are close."""

UNKNOWN = 254
"""Stands for a pixel of no class until it is counted; a data set has fewer classes."""

Picture = npt.NDArray[Any]
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Legend:
    """What stands for the classes 0..K-1 in label files: colours (three bands) or values (one band)."""

    colours: tuple[tuple[int, int, int], ...] = ()
    values: tuple[int, ...] = ()

    @property
    def bands(self) -> int:
        """How many bands a label file has."""
        return 3 if self.colours else 1

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Pixel types that a label file may have."""
        return ("uint8",) if self.colours else ("uint8", "int8", "uint16", "int16", "uint32", "int32")


@dataclass(frozen=True, slots=True)
class Unknown:
    """A pixel of no class."""

    row: int
    column: int
    pixel: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A label picture, or rows of one, as classes."""

    y_HW: Labels  # 0..K-1, 255 = ignore
    snapped_px: int  # not exactly a colour of the legend, nor black
    unknown_px: int  # of no class; ignored
    unknown: Unknown | None  # the first of them


def legend_of(dataset: Dataset) -> Legend:
    """The legend of a data set's label files."""
    if dataset.labels == "colours":
        return Legend(colours=tuple(c.rgb for c in dataset.classes))
    return Legend(values=tuple(c.value for c in dataset.classes if c.value is not None))


def decode(picture_BHW: Picture, legend: Legend, missing_HW: npt.NDArray[np.bool_] | None = None) -> Decoded:
    """Turn colours or values into classes and count what was not exact.

    Colours that are all corners of the colour cube (each channel 0 or 255) are told by whether a channel is above 127,
    so any distortion short of that does no harm. Other colours may be off by `TOLERANCE` per channel. Black, and the
    value 255, are ignored unless the legend gives them to a class.

    Args:
        picture_BHW: colours or values.
        legend: what they stand for.
        missing_HW: True where the picture holds nothing: ignored, and not counted; None: nowhere.
    """
    if legend.values:
        y_HW, inexact_HW = _by_value(picture_BHW[0], legend.values), None
    elif all(channel in (0, 255) for colour in legend.colours for channel in colour):
        y_HW, inexact_HW = _by_corner(picture_BHW, legend.colours)
    else:
        y_HW, inexact_HW = _by_distance(picture_BHW, legend.colours)
    if missing_HW is not None:
        y_HW[missing_HW] = IGNORE
        inexact_HW = inexact_HW & ~missing_HW if inexact_HW is not None else None
    unknown_HW = y_HW == UNKNOWN
    unknown_px = int(np.count_nonzero(unknown_HW))
    snapped_px = 0 if inexact_HW is None else int(np.count_nonzero(inexact_HW & ~unknown_HW))
    unknown = None
    if unknown_px:
        row, column = (int(i) for i in np.unravel_index(int(unknown_HW.argmax()), unknown_HW.shape))
        unknown = Unknown(row, column, tuple(picture_BHW[:, row, column].tolist()))
        y_HW[unknown_HW] = IGNORE
    return Decoded(y_HW, snapped_px, unknown_px, unknown)


def require_known(path: Path, unknown_px: int, all_px: int, example: Unknown | None, max_share: float) -> None:
    """Refuse a label picture with too many pixels of no class.

    Args:
        path: its file, for the message.
        unknown_px: how many there are.
        all_px: pixels of the whole picture.
        example: one of them, placed in the whole picture.
        max_share: share of unknown pixels that is tolerated, 0..1.

    Raises:
        DataError: there are more; the sentence shows the example.
    """
    share = unknown_px / all_px
    if example is None or share <= max_share:
        return
    kind = "a colour" if len(example.pixel) == 3 else "a value"
    shown = ("RGB " if len(example.pixel) == 3 else "") + ", ".join(map(str, example.pixel))
    raise DataError(
        f"{path}: {100 * share:.3g} % of the pixels have {kind} of no class, for example {shown} at row {example.row}, "
        f"column {example.column}; at most {100 * max_share:.3g} % are ignored: mend the file, name its classes in "
        "dataset.yaml or raise preprocess.max_unknown_share"
    )


def _by_corner(picture_BHW: Labels, colours: Iterable[tuple[int, int, int]]) -> tuple[Labels, npt.NDArray[Any] | None]:
    """By the highest bit of each channel: 127 and less count as 0, 128 and more as 255."""
    table = bytearray([UNKNOWN] * 256)
    table[0] = IGNORE
    for label, (red, green, blue) in enumerate(colours):
        table[(red & 128) >> 5 | (green & 128) >> 6 | (blue & 128) >> 7] = label
    high_BHW = picture_BHW & np.uint8(128)
    corner_HW = high_BHW[0] >> 5 | high_BHW[1] >> 6 | high_BHW[2] >> 7
    off_HW = np.bitwise_or.reduce(picture_BHW + np.uint8(1), axis=0)  # 255 and 0 have become 0 and 1
    return _looked_up(corner_HW, table), off_HW > 1 if off_HW.max(initial=0) > 1 else None


def _by_distance(picture_BHW: Labels, colours: tuple[tuple[int, int, int], ...]) -> tuple[Labels, npt.NDArray[Any]]:
    """By the one colour that no channel is further from than the tolerance."""
    labelled = {**{(0, 0, 0): IGNORE}, **{colour: label for label, colour in enumerate(colours)}}
    known = np.array(list(labelled), int)
    apart = np.abs(known[:, None] - known).max(-1) + 1000 * np.eye(len(known), dtype=int)
    tolerance = min(TOLERANCE, (int(apart.min()) - 1) // 2)
    y_HW = np.full(picture_BHW.shape[1:], UNKNOWN, np.uint8)
    inexact_HW = np.ones(y_HW.shape, bool)
    for colour, label in labelled.items():
        bands = list(zip(picture_BHW, colour, strict=True))
        near = [(band >= max(0, c - tolerance)) & (band <= min(255, c + tolerance)) for band, c in bands]
        near_HW = np.logical_and.reduce(near)
        if near_HW.any():
            y_HW[near_HW] = label
            inexact_HW &= ~np.logical_and.reduce([band == c for band, c in bands])
    return y_HW, inexact_HW


def _by_value(values_HW: Picture, values: tuple[int, ...]) -> Labels:
    labelled = {IGNORE: IGNORE} | {value: label for label, value in enumerate(values)}
    if values_HW.dtype == np.uint8:
        return _looked_up(values_HW, bytearray(labelled.get(value, UNKNOWN) for value in range(256)))
    y_HW = np.full(values_HW.shape, UNKNOWN, np.uint8)
    for value, label in labelled.items():
        y_HW[values_HW.astype(np.int64, copy=False) == value] = label
    return y_HW


def _looked_up(index_HW: Labels, table: bytearray) -> Labels:
    """`table[index]`, twice as fast as NumPy's indexing."""
    return np.frombuffer(bytearray(np.ascontiguousarray(index_HW)).translate(table), np.uint8).reshape(index_HW.shape)
