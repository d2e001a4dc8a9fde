"""What `dataset.yaml` states about each layer of a tile: where its files are and how their pixels are to be read.

A key that is null or absent means "as the file itself states"; a key that is given replaces what the file states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInfo:
    """One variant of the images."""

    files: str  # path pattern
    bands: tuple[str, ...]  # names, in the order in which they are stored
    range: tuple[float, float]  # values that become 0.0 and 1.0
    mean: tuple[float, ...]  # per band, of the values 0.0 to 1.0
    std: tuple[float, ...]  # per band, > 0
    band_numbers: tuple[int, ...] | None = None  # band of the file for each name, from 1; None: all, in file order
    nodata: tuple[float, ...] | None = None  # values that mean "no image", in all bands; None: as the file states
    scale: float | None = None  # value = pixel * scale + offset; None: as the file states
    offset: float | None = None

    def __post_init__(self) -> None:
        if not self.bands:
            raise ValueError("bands is empty; expected a name for each band of the files")
        if len(set(self.bands)) < len(self.bands):
            raise ValueError(f"bands is {list(self.bands)}; expected different names")
        for key, given in (("mean", self.mean), ("std", self.std)):
            if len(given) != len(self.bands):
                raise ValueError(f"{key} has {len(given)} numbers; expected one per band, {len(self.bands)}")
        if min(self.std) <= 0:
            raise ValueError(f"std is {list(self.std)}; expected numbers above 0")
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range is {list(self.range)}; expected two ascending numbers")
        _require_band_numbers(self.band_numbers, len(self.bands))
        _require_finite(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class DsmInfo:
    """One variant of the heights."""

    files: str  # path pattern
    relative_to: Literal["datum", "ground"]  # absolute heights | heights above the ground
    unit_m: float | None = None  # metres per unit, > 0; None: as the file states, else metres
    nodata: tuple[float, ...] | None = None  # values that mean "not measured"; None: as the file states, and detected
    bands: tuple[int, ...] | None = None  # the band of the file that holds the heights, from 1; None: its only one
    scale: float | None = None  # height = pixel * scale + offset; None: as the file states
    offset: float | None = None

    def __post_init__(self) -> None:
        if self.unit_m is not None and not 0 < self.unit_m < float("inf"):
            raise ValueError(f"unit_m is {self.unit_m}; expected a number of metres above 0, or null")
        _require_band_numbers(self.bands, 1)
        _require_finite(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelInfo:
    """Label files, full or eroded."""

    files: str  # path pattern
    nodata: tuple[float | Colour, ...] | None = None  # values or colours of "no label"; None: as the file states
    ignore: tuple[float | Colour, ...] = ()  # further values or colours that mean "not labelled"
    bands: tuple[int, ...] | None = None  # bands of the file that hold value or colour, from 1; None: all

    def __post_init__(self) -> None:
        _require_band_numbers(self.bands, None)

    def marks(self, labels: Literal["colours", "values"]) -> tuple[float | Colour, ...]:
        """All values or colours that `dataset.yaml` declares as not labelled; among colours, 255 stands for white.

        Raises:
            ValueError: there is a colour, but label files hold values.
        """
        given = (*(self.nodata or ()), *self.ignore)
        if labels == "colours":
            return tuple(mark if isinstance(mark, tuple) else (int(mark),) * 3 for mark in given)
        if colour := next((mark for mark in given if isinstance(mark, tuple)), None):
            raise ValueError(
                f"label declares the colour {list(colour)} as not labelled; labels are values: write values"
            )
        return given


def image_facts(facts: Any) -> Any:
    """The facts of an image variant with `bands` as names and `band_numbers`: `bands` may map names to band numbers."""
    if isinstance(facts, Mapping) and isinstance(bands := facts.get("bands"), Mapping):
        return {**facts, "bands": list(bands), "band_numbers": list(bands.values())}
    return facts


def label_facts(facts: Any) -> Any:
    """The facts of a label layer as a mapping: a bare path pattern stands for `{files: PATTERN}`."""
    return {"files": facts} if isinstance(facts, str) else facts


def _require_band_numbers(numbers: tuple[int, ...] | None, count: int | None) -> None:
    if numbers is None:
        return
    if any(number < 1 for number in numbers) or len(numbers) != (count or len(numbers)) or not numbers:
        wanted = "band numbers" if count is None else f"{count} band number{'s' * (count > 1)}"
        raise ValueError(f"bands is {list(numbers)}; expected {wanted} of the file, counted from 1")


def _require_finite(info: ImageInfo | DsmInfo) -> None:
    if info.scale is not None and not (isfinite(info.scale) and info.scale):
        raise ValueError(f"scale is {info.scale}; expected a number other than 0, or null")
    if info.offset is not None and not isfinite(info.offset):
        raise ValueError(f"offset is {info.offset}; expected a number, or null")
