"""Rows of a DSM: metres as float32, NaN where nothing was measured.

`metres = (pixel * scale + offset) * unit`, each as the file or dataset.yaml states it. A pixel is not measured where
the file marks it, where it has a usual nodata value, where no place on Earth is so high or low, and where one exact
value repeats far below or above all other heights: a nodata value that the file does not name.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import isclose
from typing import Any

import numpy as np
import numpy.typing as npt

from components.common.data.height_scaling import PLAUSIBLE_M
from components.common.data.layerinfo import DsmInfo
from components.common.data.units import METRE, unit_metres, vertical_unit
from components.common.rasterfiles.position import stated_crs
from components.common.rasterfiles.rasters import Header, Mask, Note, Pixels, Rejected, equal_to
from components.common.readers.layers import Heights, Layer

SENTINELS = (-9999.0, -99999.0, -999999.0, -32767.0, -32768.0)
"""Usual nodata values, compared with the pixel before its unit is applied: -9999 cm would be a possible height."""

SAMPLE_SIDE = 256
"""About so many rows and columns are enough for the distribution of a tile's heights."""

REPEATS, REPEATS_WARPED = 9, 3
"""A nodata value that the file does not name occurs at least so often; a warped DSM may have larger pixels."""

DISTINCT, DISTINCT_INTEGERS = 32, 3
"""With fewer different heights than this in the sample, a tile is too flat or artificial to tell an outlier."""

MOST_HIDDEN = 3
"""So many values at each end of the heights may be hidden nodata values."""

FAR_BELOW_M, FAR_ABOVE_M = 20.0, 100.0
"""A repeated value at least so far from all other heights, and farther than their range, is no height."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """How pixels become metres: `pixel * factor + shift_m`."""

    factor: float
    shift_m: float

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
        self.scaling = self._scaling(header, number - 1)
        self.missing_px = self.implausible_px = 0
        self._found: list[float] = []  # nodata values that the file does not name
        step = max(1, min(header.height_px, header.width_px) // SAMPLE_SIDE)
        self._survey = _Survey(step, self.dtype, REPEATS if layer.fit.offset is not None else REPEATS_WARPED)

    def metres(self, rows: slice, columns: slice | None = None) -> Heights:
        """Heights of rows of the image, `[h, W]`, metres, NaN = not measured; of some columns, unless they are None."""
        metres_hW = self.layer.heights(rows, self._metres, columns)
        self.missing_px += int(np.count_nonzero(np.isnan(metres_hW)))
        return metres_hW

    @property
    def hidden(self) -> str:
        """What is known of nodata values that the file does not name, as the start of a sentence; empty: none."""
        values = ", ".join(f"{value:g}" for value in self._found)
        what = f"the value {values} repeats" if len(self._found) == 1 else f"the values {values} repeat"
        return f"{what} far from all other heights; read as not measured" if self._found else ""

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
        if what := self.hidden:
            stated = [mark for (mark,) in self.layer.bands.nodata]
            both, kept = (", ".join(f"{v:g}" for v in vs) for vs in (stated + self._found, stated))
            remedy = f"set dsm.nodata: [{both}] in dataset.yaml, or dsm.nodata: [{kept}] if these are heights"
            self._note("dsm-nodata-found", f"{what}: {remedy}")
        if self.missing_px == size:
            raise Rejected("dsm-blank", self._why_blank(), self.layer.file.path)
        if self.missing_px:
            share = f"{self.missing_px:,} px ({100 * self.missing_px / size:.3g} %)"
            self._note("dsm-holes", f"{share} hold no height; masked")

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
        return () if self.scaling.identity or self.info.nodata == () else SENTINELS

    def _scaling(self, header: Header, band: int) -> Scaling:
        """How pixels of a band, counted from 0, become metres."""
        info, unit_m = self.info, self._unit(header.units[band])
        scale = header.scales[band] if info.scale is None else info.scale
        offset = header.offsets[band] if info.offset is None else info.offset
        if info.scale is None and scale != 1 and info.unit_m not in (None, METRE):
            sentence = (
                f"states a scale of {scale:g}, and unit_m in dataset.yaml is {info.unit_m:g}: both would apply; remove "
                "dsm.unit_m, or set dsm.scale: 1"
            )
            raise Rejected("dsm-units-differ", sentence, self.layer.file.path)
        if scale != 1 or offset:
            source = "the file states" if info.scale is None and info.offset is None else "dataset.yaml states"
            self._note("scale-applied", f"pixels are multiplied by {scale:g} and {offset:g} is added, as {source}")
        return Scaling(scale * unit_m, offset * unit_m)

    def _unit(self, name: str | None) -> float:
        """Metres per unit, by what the band, the vertical CRS and dataset.yaml state; below 0 for depths."""
        given, crs = self.info.unit_m, stated_crs(self.layer.file)
        vertical = vertical_unit(crs.to_wkt()) if crs is not None else None
        band = unit_metres(name) if name is not None else None
        if name is not None and band is None and given is None:
            sentence = f"states the unit {name!r}, which is not known; set dsm.unit_m in dataset.yaml, or correct it"
            raise Rejected("dsm-units-differ", sentence, self.layer.file.path)
        if name is not None and band is None and given == METRE:
            self._note("dsm-units", f"states the unit {name!r}, which is not known; read as metres: check dsm.unit_m")
        if band is not None and vertical is not None and not isclose(band, abs(vertical), rel_tol=1e-5):
            self._note(
                "dsm-units",
                f"its band states a unit of {band:.6g} m, its vertical reference system one of {abs(vertical):.6g} m; "
                "the band's is used: set dsm.unit_m in dataset.yaml if that is wrong",
            )
        stated = band or (abs(vertical) if vertical is not None else None)
        unit_m = self._agreed(given, stated)
        if vertical is not None and vertical < 0:
            self._note("unit-converted", "its vertical reference system counts depths; their sign is changed")
            unit_m = -unit_m
        return unit_m

    def _agreed(self, given: float | None, stated: float | None) -> float:
        """Metres per unit; `unit_m: 1` in dataset.yaml is not taken as a contradiction."""
        if stated is None:
            return given or METRE
        if given in (None, METRE) or isclose(given or METRE, stated, rel_tol=1e-5):
            if stated != METRE:
                self._note("unit-converted", f"states a unit of {stated:.6g} m; converted to metres")
            return stated
        assert given is not None
        if stated != METRE:
            sentence = (
                f"states a unit of {stated:.6g} m, but unit_m in dataset.yaml is {given:g}; remove unit_m, or correct "
                "the file"
            )
            raise Rejected("dsm-units-differ", sentence, self.layer.file.path)
        self._note(
            "unit-replaced",
            f"states metres, but unit_m in dataset.yaml is {given:g}; unit_m is used: remove it if the file is right",
        )
        return given

    def _note(self, code: str, sentence: str) -> None:
        self.notes.append(Note(code, sentence))

    def _why_blank(self) -> str:
        if self.implausible_px:
            low, high = PLAUSIBLE_M
            return (
                f"holds no height: none of its values is within {low:g} to {high:g} m; set unit_m in dataset.yaml if "
                "they are in another unit"
            )
        return "holds no height: every pixel is marked as missing; copy or download it again"


Counts = npt.NDArray[np.intp]


class _Survey:
    """Lowest and highest pixel, how often each occurs, and a sample of the heights."""

    def __init__(self, step: int, dtype: np.dtype[Any], repeats: int) -> None:
        self._step = step
        self._repeats = repeats
        self._integers = dtype.kind in "iu"
        wide = self._integers and dtype.itemsize > 1
        self._top = float(np.iinfo(dtype).max) if wide else None  # often means "not measured"
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
        ends = np.array([self._low[1], self._high[1]], np.float32)  # a small hole may not be in the sample
        heights, counts = np.unique(np.concatenate([*self._sample, ends]), return_counts=True)
        far_above_m = FAR_BELOW_M if self._high[0] == self._top else FAR_ABOVE_M
        few = range(min(MOST_HIDDEN, len(heights)) + 1)
        for below, above in sorted(product(few, few), key=sum):
            core, core_counts = heights[below : len(heights) - above], counts[below : len(heights) - above]
            if below + above == 0 or not self._is_varied(core, core_counts, counts):
                continue
            low_m, high_m = np.interp((0.005, 0.995), np.cumsum(core_counts) / core_counts.sum(), core)
            gaps_m = low_m - heights[below - 1], heights[-above] - high_m
            if below and (self._low[2] < self._repeats or gaps_m[0] <= max(FAR_BELOW_M, high_m - low_m)):
                continue
            if above and (self._high[2] < self._repeats or gaps_m[1] <= max(far_above_m, high_m - low_m)):
                continue
            return self._low[0] if below else self._high[0]
        return None

    def _is_varied(self, core: npt.NDArray[np.float32], counts: Counts, all_counts: Counts) -> bool:
        """Whether the heights that remain are those of a terrain, so that a value far from them stands out."""
        if len(core) >= DISTINCT:
            return True
        return self._integers and len(core) >= DISTINCT_INTEGERS and 2 * counts.sum() > all_counts.sum()
