"""The canvas of a tile: colour, height, slope and class of the highest object at every pixel.

Objects are painted in any order; the highest one stays at each pixel, as in a vertical photograph.
Axes: x metres to the right (columns), y metres down (rows), origin at the centre of the tile. Heights are metres above
the ground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.common.data import datasets

DATASET = datasets.dataset("sample")
GSD_M = DATASET.gsd_m
LABELS = {info.name: value for value, info in enumerate(DATASET.classes)}

Plane = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]
Colour = tuple[float, float, float]
"""sRGB, 0..1."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Position and direction of an object: axes `u` (along) and `v` (across, to the right of `u`)."""

    x_m: float
    y_m: float
    angle: float  # radians from x towards y

    def at(self, u_m: float, v_m: float, turn: float = 0.0) -> Frame:
        """The frame at a point given in this one, turned by `turn` radians."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return Frame(self.x_m + u_m * cos - v_m * sin, self.y_m + u_m * sin + v_m * cos, self.angle + turn)


@dataclass(frozen=True, slots=True)
class Patch:
    """A window of the canvas, seen in the axes of a frame."""

    rows: slice
    cols: slice
    u_HW: Plane  # metres
    v_HW: Plane  # metres

    @property
    def window(self) -> tuple[slice, slice]:
        """Index into the arrays of the canvas."""
        return self.rows, self.cols


class Canvas:
    """Arrays `[H, W]` of a tile and a margin, so that objects outside cast their crowns and shadows into it."""

    def __init__(self, side_px: int, margin_px: int) -> None:
        """An empty canvas: height 0, no class yet.

        Args:
            side_px: side of the tile, pixels.
            margin_px: painted beyond each edge and cropped at the end, pixels.
        """
        self.margin_px = margin_px
        self.full_px = side_px + 2 * margin_px
        self.reach_m = self.full_px * GSD_M / 2
        shape = (self.full_px, self.full_px)
        self.colour_HW3 = np.zeros((*shape, 3), np.float32)  # sRGB 0..1, as if lit evenly
        self.height_HW = np.zeros(shape, np.float32)
        self.slope_2HW = np.zeros((2, *shape), np.float32)  # rise per metre, down the rows and along the columns
        self.label_HW = np.full(shape, LABELS["low_vegetation"], np.uint8)

    def patch(self, frame: Frame, half_u_m: float, half_v_m: float) -> Patch | None:
        """The window that holds a rectangle around a frame's origin; None if it lies outside the canvas."""
        cos, sin = abs(math.cos(frame.angle)), abs(math.sin(frame.angle))
        reach_x, reach_y = half_u_m * cos + half_v_m * sin, half_u_m * sin + half_v_m * cos
        rows, cols = self._span(frame.y_m, reach_y), self._span(frame.x_m, reach_x)
        if rows.stop - rows.start < 2 or cols.stop - cols.start < 2:
            return None
        y_H = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5) * GSD_M - self.reach_m - frame.y_m
        x_W = (np.arange(cols.start, cols.stop, dtype=np.float32) + 0.5) * GSD_M - self.reach_m - frame.x_m
        cos, sin = math.cos(frame.angle), math.sin(frame.angle)
        u_HW = (x_W[None, :] * cos + y_H[:, None] * sin).astype(np.float32)
        v_HW = (y_H[:, None] * cos - x_W[None, :] * sin).astype(np.float32)
        return Patch(rows, cols, u_HW, v_HW)

    def all(self) -> Patch:
        """The complete canvas as one patch."""
        patch = self.patch(Frame(0.0, 0.0, 0.0), self.reach_m, self.reach_m)
        assert patch is not None  # the canvas holds its own centre
        return patch

    def _span(self, centre_m: float, reach_m: float) -> slice:
        first = math.floor((centre_m - reach_m + self.reach_m) / GSD_M)
        last = math.ceil((centre_m + reach_m + self.reach_m) / GSD_M)
        return slice(min(max(first, 0), self.full_px), min(max(last, 0), self.full_px))

    def lay(
        self, patch: Patch, mask_HW: Mask, colour: Plane | Colour, *, label: str | None, height: Plane | float = 0.0
    ) -> None:
        """Paint a surface; it shows where nothing higher was painted.

        Args:
            patch: where.
            mask_HW: the pixels of the patch that it covers.
            colour: `[H, W, 3]` or one colour, sRGB 0..1.
            label: class name; None leaves the class of what it is painted on.
            height: `[H, W]` or one height, metres above the ground.
        """
        height_HW = np.broadcast_to(np.asarray(height, np.float32), mask_HW.shape)
        shows = mask_HW & (height_HW >= self.height_HW[patch.window])
        colour_HW3 = np.broadcast_to(np.asarray(colour, np.float32), (*mask_HW.shape, 3))
        self.colour_HW3[patch.window][shows] = colour_HW3[shows]
        self.height_HW[patch.window][shows] = height_HW[shows]
        for axis in (0, 1):
            slope = np.gradient(height_HW, GSD_M, axis=axis)[shows] if isinstance(height, np.ndarray) else 0.0
            self.slope_2HW[axis][patch.window][shows] = slope
        if label is not None:
            self.label_HW[patch.window][shows] = LABELS[label]

    def height_at(self, frame: Frame) -> float:
        """Height at a frame's origin, metres; 0 off the canvas."""
        row, col = (math.floor((metres + self.reach_m) / GSD_M) for metres in (frame.y_m, frame.x_m))
        inside = 0 <= row < self.full_px and 0 <= col < self.full_px
        return float(self.height_HW[row, col]) if inside else 0.0

    def is_free(self, frame: Frame, half_u_m: float, half_v_m: float, on: tuple[str, ...]) -> bool:
        """Whether a rectangle shows nothing but ground of the named classes."""
        patch = self.patch(frame, half_u_m, half_v_m)
        if patch is None:
            return False
        inside = (np.abs(patch.u_HW) <= half_u_m) & (np.abs(patch.v_HW) <= half_v_m)
        good = np.isin(self.label_HW[patch.window], [LABELS[name] for name in on]) & (
            self.height_HW[patch.window] < 0.5
        )
        return bool(good[inside].all())
