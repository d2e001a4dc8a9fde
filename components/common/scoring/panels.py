"""Pictures of tiles and predictions: arrays in, uint8 RGB arrays out. Needs only NumPy.

Class maps are coloured by palette, heights and gates by colour ramps. Arrays are shrunk in bounded memory.
Letters: H rows, W columns, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from components.common.data.datasets import IGNORE

Picture = npt.NDArray[np.uint8]
"""`[H, W, 3]` uint8 RGB."""

HEIGHT_STOPS = ((18, 22, 54), (46, 63, 120), (52, 118, 141), (88, 164, 124), (176, 200, 104), (252, 240, 180))
"""Colours from low to high; brightness increases evenly, so that the ramp also works in greyscale."""

GATE_STOPS = ((140, 74, 16), (214, 152, 84), (244, 242, 238), (112, 166, 206), (22, 84, 140))
"""Colours of gate values: 0 DSM only (brown), 0.5 both equally (near white), 1 image only (blue)."""

MISSING = (128, 0, 128)
"""Colour of pixels without a measured height."""


def class_picture(classes_HW: npt.NDArray[np.integer], palette_K3: npt.ArrayLike) -> Picture:
    """Colour a class map; ignored pixels (255) are black."""
    lookup = np.zeros((256, 3), np.uint8)
    colours = np.asarray(palette_K3, np.uint8)
    lookup[: len(colours)] = colours
    lookup[IGNORE] = 0
    return lookup[classes_HW]


def image_picture(image_HWC: npt.NDArray[np.uint8]) -> Picture:
    """The first three bands of an image as red, green and blue; with fewer bands, the first one as grey."""
    bands = image_HWC.shape[-1]
    return image_HWC[..., :3] if bands >= 3 else np.repeat(image_HWC[..., :1], 3, axis=-1)


def ramp(stops: Sequence[tuple[int, int, int]]) -> npt.NDArray[np.uint8]:
    """A table of 256 colours, `[256, 3]`, interpolated linearly between evenly spaced stops."""
    at = np.linspace(0, 255, len(stops))
    channels = [np.interp(np.arange(256), at, channel) for channel in zip(*stops, strict=True)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def height_picture(dsm_HW: npt.NDArray[np.float32], limits: tuple[float, float] | None = None) -> Picture:
    """Colour heights from low to high.

    Args:
        dsm_HW: heights in any unit; NaN means not measured and is drawn purple.
        limits: heights of the darkest and the brightest colour; None: the 1st and 99th percentile of `dsm_HW`.
    """
    measured = np.isfinite(dsm_HW)
    if limits is None:
        limits = tuple(np.percentile(dsm_HW[measured], (1, 99))) if measured.any() else (0.0, 1.0)
    low, high = limits
    share_HW = np.where(measured, (dsm_HW - low) / max(high - low, 1e-6), 0.0)
    picture = ramp(HEIGHT_STOPS)[_level(share_HW)]
    picture[~measured] = MISSING
    return picture


def gate_picture(gate_HW: npt.NDArray[np.float32], reach: float = 0.5) -> Picture:
    """Colour a gate map: brown towards the DSM, blue towards the image, white in between.

    Args:
        gate_HW: gate values; 0 means DSM only, 1 image only.
        reach: distance from 0.5 that gets the full colour, > 0; 0.5 covers the complete range 0..1.
    """
    return ramp(GATE_STOPS)[_level(0.5 + (gate_HW - 0.5) / (2 * reach))]


def _level(share: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    return (np.clip(share, 0.0, 1.0) * 255).round().astype(np.uint8)


def shrink_classes(classes_HW: npt.NDArray[np.uint8], max_side_px: int) -> npt.NDArray[np.uint8]:
    """Take every n-th pixel; n is the smallest integer that makes the longer side at most `max_side_px`."""
    factor = _factor(classes_HW.shape, max_side_px)
    rows, columns = (np.minimum(np.arange(0, side, factor) + factor // 2, side - 1) for side in classes_HW.shape)
    return classes_HW[rows[:, None], columns]


def shrink_mean(values: npt.NDArray[Any], max_side_px: int) -> npt.NDArray[np.float32]:
    """Average blocks of n x n pixels, so that the longer side is at most `max_side_px`.

    Args:
        values: `[H, W]` or `[H, W, C]` of any number type. NaN is left out of the averages; a block of only NaN
            becomes NaN.
        max_side_px: longest side of the result, pixels.

    Returns:
        float32, of the same size as the result of `shrink_classes`. Only one row of blocks is in memory at a time, so a
        memory-mapped tile can have any size.
    """
    height, width = values.shape[:2]
    factor = _factor((height, width), max_side_px)
    columns = np.arange(0, width, factor)
    rows = []
    for top in range(0, height, factor):
        block = values[top : top + factor].astype(np.float32)
        known = np.isfinite(block)
        total = np.add.reduceat(np.where(known, block, 0).sum(axis=0), columns, axis=0)
        count = np.add.reduceat(known.sum(axis=0), columns, axis=0)
        rows.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    return np.stack(rows).astype(np.float32)


def shrink_picture(picture: npt.NDArray[np.uint8], max_side_px: int) -> Picture:
    """Average blocks of a uint8 RGB picture `[H, W, 3]`; see `shrink_mean`."""
    return shrink_mean(picture, max_side_px).round().astype(np.uint8)


def _factor(shape: tuple[int, ...], max_side_px: int) -> int:
    return -(-max(shape[:2]) // max_side_px)


def strip(panels: Sequence[Picture], gap_px: int = 6, gap_grey: int = 255) -> Picture:
    """Put pictures next to each other, aligned at the top; gaps and the space below shorter pictures are grey."""
    height = max(panel.shape[0] for panel in panels)
    width = sum(panel.shape[1] for panel in panels) + gap_px * (len(panels) - 1)
    canvas = np.full((height, width, 3), gap_grey, np.uint8)
    left = 0
    for panel in panels:
        canvas[: panel.shape[0], left : left + panel.shape[1]] = panel
        left += panel.shape[1] + gap_px
    return canvas
