"""Label pictures -> class numbers: by colour, tolerant of a lossy re-encoding, or by value.

In: `[B, H, W]` as a file holds it, all or any part of it. Out: `[H, W]` uint8 with classes 0..K-1 and 255 = ignore.
A colour or value of no class is ignored and counted as unknown; it never becomes a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.common.data.datasets import IGNORE, Dataset
from components.common.data.layerinfo import LabelInfo

TOLERANCE = 8
"""How far each channel may be from a colour that is no corner of the colour cube; less where two colours are close."""

UNKNOWN = 254
"""Stands for a pixel of no class until it is counted; a data set has fewer classes."""

VALUE_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
"""Pixel types of labels that tell classes by value; a float that is no whole number is of no class."""

Picture = npt.NDArray[Any]
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Legend:
    """What stands for the classes 0..K-1 in label files: colours (three bands) or values (one band)."""

    colours: tuple[tuple[int, int, int], ...] = ()
    values: tuple[int, ...] = ()
    ignored: tuple[Any, ...] = ()  # further colours or values that mean "not labelled"

    @property
    def bands(self) -> int:
        """How many bands a label file has."""
        return 3 if self.colours else 1

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Pixel types that a label file may have."""
        return ("uint8",) if self.colours else VALUE_DTYPES


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
    masked: Labels | None  # classes of the pixels that are missing, in order of rows; 254: of no class; None: none is
    unknown: Unknown | None  # the first of them


def legend_of(dataset: Dataset, info: LabelInfo) -> Legend:
    """The legend of the full or the eroded label files of a data set."""
    ignored = info.marks(dataset.labels)
    if dataset.labels == "colours":
        return Legend(colours=tuple(c.rgb for c in dataset.classes), ignored=ignored)
    return Legend(values=tuple(c.value for c in dataset.classes if c.value is not None), ignored=ignored)


def decode(picture_BHW: Picture, legend: Legend, missing_HW: npt.NDArray[np.bool_] | None = None) -> Decoded:
    """Turn colours or values into classes and count what was not exact.

    Colours that are all corners of the colour cube (each channel 0 or 255) are told by whether a channel is above 127,
    so any distortion short of that does no harm. Other colours may be off by `TOLERANCE` per channel. Black, and the
    value 255, are ignored unless the legend gives them to a class; so are NaN and what the legend ignores.

    Args:
        picture_BHW: colours or values.
        legend: what they stand for.
        missing_HW: True where the picture holds nothing: ignored, and not counted; None: nowhere.
    """
    if legend.values:
        y_HW, inexact_HW = _by_value(picture_BHW[0], legend), None
    elif all(channel in (0, 255) for colour in (*legend.colours, *legend.ignored) for channel in colour):
        y_HW, inexact_HW = _by_corner(picture_BHW, legend)
    else:
        y_HW, inexact_HW = _by_distance(picture_BHW, legend)
    masked = None
    if missing_HW is not None:
        masked = y_HW[missing_HW]
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
    return Decoded(y_HW, snapped_px, unknown_px, masked, unknown)


def unknown_sentence(unknown_px: int, all_px: int, example: Unknown) -> str:
    """How many pixels of a label picture are of no class, and one of them."""
    kind, shown = ("colour", "RGB ") if len(example.pixel) == 3 else ("value", "")
    shown += ", ".join(f"{value:g}" for value in example.pixel)
    return (
        f"{unknown_px:,} px ({100 * unknown_px / all_px:.3g} %) have a {kind} of no class, for example {shown} at row "
        f"{example.row}, column {example.column}"
    )


def _by_corner(picture_BHW: Labels, legend: Legend) -> tuple[Labels, npt.NDArray[Any] | None]:
    """By the highest bit of each channel: 127 and less count as 0, 128 and more as 255."""
    table = bytearray([UNKNOWN] * 256)
    for (red, green, blue), label in _labelled((0, 0, 0), legend.ignored, legend.colours).items():
        table[(red & 128) >> 5 | (green & 128) >> 6 | (blue & 128) >> 7] = label
    high_BHW = picture_BHW & np.uint8(128)
    corner_HW = high_BHW[0] >> 5 | high_BHW[1] >> 6 | high_BHW[2] >> 7
    off_HW = np.bitwise_or.reduce(picture_BHW + np.uint8(1), axis=0)  # 255 and 0 have become 0 and 1
    return _looked_up(corner_HW, table), off_HW > 1 if off_HW.max(initial=0) > 1 else None


def _by_distance(picture_BHW: Labels, legend: Legend) -> tuple[Labels, npt.NDArray[Any]]:
    """By the one colour that no channel is further from than the tolerance."""
    labelled = _labelled((0, 0, 0), legend.ignored, legend.colours)
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


def _by_value(values_HW: Picture, legend: Legend) -> Labels:
    labelled = _labelled(IGNORE, legend.ignored, legend.values)
    if values_HW.dtype == np.uint8:
        return _looked_up(values_HW, bytearray(labelled.get(value, UNKNOWN) for value in range(256)))
    y_HW = np.full(values_HW.shape, UNKNOWN, np.uint8)
    for value, label in labelled.items():
        y_HW[values_HW == value] = label
    if values_HW.dtype.kind == "f":
        y_HW[np.isnan(values_HW)] = IGNORE
    return y_HW


def _labelled(usual: Any, ignored: tuple[Any, ...], codes: tuple[Any, ...]) -> dict[Any, int]:
    """Label of each colour or value; a class goes before what usually means "not labelled"."""
    return dict.fromkeys((usual, *ignored), IGNORE) | {code: label for label, code in enumerate(codes)}


def _looked_up(index_HW: Labels, table: bytearray) -> Labels:
    """`table[index]`, twice as fast as NumPy's indexing."""
    return np.frombuffer(bytearray(np.ascontiguousarray(index_HW)).translate(table), np.uint8).reshape(index_HW.shape)
