"""Rows of a DSM: metres as float32, NaN where nothing was measured.

`metres = (pixel * scale + offset) * unit`, each as the file or dataset.yaml states it. A pixel is not measured where
the file marks it, where it has a usual nodata value, where no place on Earth is so high or low, and where one exact
value repeats far below or above all other heights: a nodata value that the file does not name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyproj
from pyproj.exceptions import CRSError

from components.common.data.heights import PLAUSIBLE_M
from components.common.data.layerinfo import DsmInfo
from components.common.readers.layers import Heights, Layer, equal_to
from components.common.readers.rasters import Header, Mask, Note, Pixels, Rejected

SENTINELS = (-9999.0, -99999.0, -999999.0, -32767.0, -32768.0)
"""Usual nodata values, compared with the pixel before its unit is applied: -9999 cm would be a possible height."""

SAMPLE_SIDE = 256
"""About so many rows and columns are enough for the distribution of a tile's heights."""

REPEATS = 9
"""A nodata value that the file does not name occurs at least so often in a tile."""

DISTINCT = 32
"""With fewer different heights than this in the sample, a tile is too flat or artificial to tell an outlier."""

FAR_BELOW_M, FAR_ABOVE_M = 20.0, 100.0
"""A repeated value at least so far from all other heights, and from them by twice their range, is no height."""

METRE, FOOT, FOOT_US = 1.0, 0.3048, 1200 / 3937
UNITS: Mapping[str, float] = MappingProxyType(
    {
        **dict.fromkeys(("m", "metre", "metres", "meter", "meters"), METRE),
        **dict.fromkeys(("ft", "foot", "feet", "international foot", "foot_intl", "0.3048 m"), FOOT),
        **dict.fromkeys(("ftus", "us-ft", "us_ft", "us survey foot", "us survey feet", "foot_us", "sft"), FOOT_US),
        **dict.fromkeys(("dm", "decimetre", "decimetres", "decimeter", "decimeters"), 0.1),
        **dict.fromkeys(("cm", "centimetre", "centimetres", "centimeter", "centimeters"), 0.01),
        **dict.fromkeys(("mm", "millimetre", "millimetres", "millimeter", "millimeters"), 0.001),
    }
)
"""Metres per unit, by the names that files have for it (lower case)."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """How pixels become metres: `pixel * factor + shift_m`."""

    factor: float
    shift_m: float
    unit_m: float

    @property
    def identity(self) -> bool:
        """Whether pixels are metres."""
        return self.factor == 1 and self.shift_m == 0


class HeightLayer:
    """The heights of a tile."""

    def __init__(self, layer: Layer, info: DsmInfo, notes: list[Note]) -> None:
        """Wrap a layer.

        Raises:
            Rejected: the file and dataset.yaml state different units.
        """
        self.layer, self.info, self.notes = layer, info, notes
        header, number = layer.file.header, layer.bands.numbers[0]
        self.dtype = np.dtype(header.dtypes[number - 1])
        self.scaling = self._scaling(header, number)
        self.missing_px = self.implausible_px = 0
        self._found: list[float] = []  # nodata values that the file does not name
        top = float(np.iinfo(self.dtype).max) if self.dtype.kind in "iu" and self.dtype.itemsize > 1 else None
        self._survey = _Survey(max(1, min(header.height_px, header.width_px) // SAMPLE_SIDE), top)

    def metres(self, rows: slice) -> Heights:
        """Heights of rows of the image, `[h, W]`, metres, NaN = not measured."""
        metres_hW = self.layer.heights(rows, self._metres)
        self.missing_px += int(np.count_nonzero(np.isnan(metres_hW)))
        return metres_hW

    def learned(self) -> bool:
        """After all rows were read: whether a hidden nodata value was found, so that they must be read again."""
        value = None if self.info.nodata is not None else self._survey.hidden_nodata()
        if value is None or value in self._found:
            self._survey.over = True
            return False
        self._found.append(value)
        self._survey.clear()
        self.restart()
        return True

    def restart(self) -> None:
        """Before rows are read again from the first one."""
        self.missing_px = self.implausible_px = 0

    def finish(self) -> None:
        """Add the notes that need all pixels.

        Raises:
            Rejected: the tile has no height at all.
        """
        size = self.layer.fit.image.height_px * self.layer.fit.image.width_px
        for value in self._found:
            sentence = (
                f"the value {value:g} repeats far from all other heights; read as not measured: write "
                f"nodata: [{value:g}] under dsm in dataset.yaml, or nodata: [] if it is a height"
            )
            self.notes.append(Note("dsm-nodata-found", sentence))
        if self.missing_px == size:
            raise Rejected("dsm-blank", self._why_blank(), self.layer.file.path)
        if self.missing_px:
            share = f"{self.missing_px:,} px ({100 * self.missing_px / size:.3g} %)"
            self.notes.append(Note("dsm-holes", f"{share} hold no height; masked"))

    def _metres(self, pixels_HW: Pixels, missing_HW: Mask | None, row: int, column: int) -> Heights:
        """Pixels of the file from a row and column on -> metres."""
        metres_HW = pixels_HW.astype(np.float32, copy=not self.scaling.identity)
        if not self.scaling.identity:
            metres_HW *= np.float32(self.scaling.factor)
            metres_HW += np.float32(self.scaling.shift_m)
        holes_HW = self._holes(pixels_HW, metres_HW, missing_HW)
        if holes_HW is not None:
            metres_HW[holes_HW] = np.nan
        self._survey.add(pixels_HW, metres_HW, row, column)
        return metres_HW

    def _holes(self, pixels_HW: Pixels, metres_HW: Heights, missing_HW: Mask | None) -> Mask | None:
        """Where nothing was measured; None: nowhere."""
        values = (*self._sentinels(), *self._found)
        holes = [marked_HW for value in values if (marked_HW := equal_to(pixels_HW, value)) is not None]
        if missing_HW is not None:
            holes.append(missing_HW)
        low, high = metres_HW.min(initial=np.inf), metres_HW.max(initial=-np.inf)  # NaN if any is NaN: then false
        if metres_HW.size and not (PLAUSIBLE_M[0] < low and high < PLAUSIBLE_M[1]):
            impossible_HW = ~((metres_HW > PLAUSIBLE_M[0]) & (metres_HW < PLAUSIBLE_M[1]))
            known_HW = np.logical_or.reduce([np.isnan(metres_HW), *holes])
            self.implausible_px += int(np.count_nonzero(impossible_HW & ~known_HW))
            holes.append(impossible_HW)
        return np.logical_or.reduce(holes) if holes else None

    def _sentinels(self) -> tuple[float, ...]:
        """Usual nodata values that would be possible heights in the file's unit."""
        if self.scaling.identity or self.info.nodata is not None:
            return ()
        return SENTINELS

    def _scaling(self, header: Header, number: int) -> Scaling:
        info, band = self.info, number - 1
        scale = header.scales[band] if info.scale is None else info.scale
        offset = header.offsets[band] if info.offset is None else info.offset
        stated, unit = stated_unit(header, band), header.units[band]
        vertical = vertical_unit(header)
        if stated is not None and vertical is not None and not np.isclose(stated, vertical, 1e-5):
            sentence = (
                f"its band states a unit of {stated:.6g} m, its vertical reference system one of {vertical:.6g} m; the "
                "band's is used: set dsm.unit_m in dataset.yaml if that is wrong"
            )
            self.notes.append(Note("dsm-units", sentence))
        if stated is None and unit is not None and info.unit_m is None:
            sentence = f"states the unit {unit!r}, which is not known; read as metres: set dsm.unit_m in dataset.yaml"
            self.notes.append(Note("dsm-units", sentence))
        unit_m = stated if info.unit_m in (None, METRE) and stated is not None else (info.unit_m or METRE)
        if stated is not None and info.unit_m not in (None, METRE, stated) and not np.isclose(stated, unit_m, 1e-5):
            if stated != METRE:
                sentence = (
                    f"states a unit of {stated:.6g} m, but unit_m in dataset.yaml is {info.unit_m:g}; remove unit_m, "
                    "or correct the file"
                )
                raise Rejected("dsm-units-differ", sentence, self.layer.file.path)
            sentence = (
                f"states metres, but unit_m in dataset.yaml is {info.unit_m:g}; unit_m is used: remove it if the file "
                "is right"
            )
            self.notes.append(Note("unit-replaced", sentence))
        if unit_m == stated and unit_m != METRE:
            self.notes.append(Note("unit-converted", f"states a unit of {unit_m:.6g} m; converted to metres"))
        if scale != 1 or offset:
            source = "the file states" if info.scale is None and info.offset is None else "dataset.yaml states"
            sentence = f"pixels are multiplied by {scale:g} and {offset:g} is added, as {source}"
            self.notes.append(Note("scale-applied", sentence))
        return Scaling(scale * unit_m, offset * unit_m, unit_m)

    def _why_blank(self) -> str:
        if self.implausible_px:
            low, high = PLAUSIBLE_M
            return (
                f"holds no height: none of its values is within {low:g} to {high:g} m; set unit_m in dataset.yaml if "
                "they are in another unit"
            )
        return "holds no height: every pixel is marked as missing; copy or download it again"


def stated_unit(header: Header, band: int) -> float | None:
    """Metres per unit of a band as the file states it, by its unit or its vertical CRS; None: it states none."""
    unit = header.units[band]
    known = UNITS.get(unit.strip().lower()) if unit is not None else None
    return known or vertical_unit(header)


def vertical_unit(header: Header) -> float | None:
    """Metres per unit of a file's vertical CRS; None: it has none."""
    if header.crs is None:
        return None
    try:
        system = pyproj.CRS.from_wkt(header.crs.to_wkt())
    except CRSError:
        return None
    vertical = [part for part in system.sub_crs_list if part.is_vertical] if system.is_compound else []
    return float(vertical[0].axis_info[0].unit_conversion_factor) if vertical else None


class _Survey:
    """Lowest and highest pixel, how often each occurs, and a sample of the heights."""

    def __init__(self, step: int, top: float | None) -> None:
        self._step = step
        self._top = top  # the largest value of an integer type, which often means "not measured"
        self.over = False  # whether nothing more is to be taken in
        self.clear()

    def clear(self) -> None:
        self._low: tuple[float, float, int] | None = None  # pixel, its height, how often
        self._high: tuple[float, float, int] | None = None
        self._sample: list[npt.NDArray[np.float32]] = []

    def add(self, pixels_HW: Pixels, metres_HW: Heights, row: int, column: int) -> None:
        """Take in pixels and their heights, NaN = not measured."""
        if self.over:
            return
        low_m, high_m = metres_HW.min(initial=np.inf), metres_HW.max(initial=-np.inf)
        if np.isnan(low_m):
            low_m, high_m = np.fmin.reduce(metres_HW, axis=None), np.fmax.reduce(metres_HW, axis=None)
        if not np.isfinite(low_m):
            return
        self._low = self._extreme(self._low, pixels_HW, metres_HW, low_m, -1)
        self._high = self._extreme(self._high, pixels_HW, metres_HW, high_m, 1)
        thin = metres_HW[-row % self._step :: self._step, -column % self._step :: self._step]
        self._sample.append(thin[np.isfinite(thin)])

    @staticmethod
    def _extreme(
        before: tuple[float, float, int] | None, pixels_HW: Pixels, metres_HW: Heights, height_m: np.float32, sign: int
    ) -> tuple[float, float, int]:
        """The extreme so far; `sign` is 1 for the highest, -1 for the lowest."""
        if before is not None and sign * height_m < sign * before[1]:
            return before
        same_HW = metres_HW == height_m
        count = int(np.count_nonzero(same_HW))
        if before is not None and height_m == before[1]:
            return (*before[:2], before[2] + count)
        return float(pixels_HW.flat[int(same_HW.argmax())]), float(height_m), count

    def hidden_nodata(self) -> float | None:
        """A pixel value that repeats far from all other heights; None: there is none."""
        if self._low is None or self._high is None:
            return None
        sample = np.concatenate(self._sample)
        above_m = FAR_BELOW_M if self._high[0] == self._top else FAR_ABOVE_M
        for (value, height_m, count), far_m, below in ((self._low, FAR_BELOW_M, True), (self._high, above_m, False)):
            others = sample[sample != np.float32(height_m)]
            if count < REPEATS or np.unique(others).size < DISTINCT:
                continue
            low_m, high_m = np.percentile(others, (0.5, 99.5))
            gap_m = low_m - height_m if below else height_m - high_m
            if gap_m > max(far_m, 2 * (high_m - low_m)):
                return value
        return None
