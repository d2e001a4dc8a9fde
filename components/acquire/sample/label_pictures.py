"""Label images: classes to palette colours, and the eroded version in which object boundaries are black."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from components.acquire.sample.canvas import DATASET

EROSION_PX = 3
"""Radius of the disc that ISPRS erodes its labels with."""


def coloured(label_HW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """`[H, W]` classes -> `[H, W, 3]` uint8 RGB of the palette."""
    return DATASET.palette[label_HW]


def boundary(label_HW: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Pixels with another class within `EROSION_PX` of them."""
    span = np.arange(-EROSION_PX, EROSION_PX + 1)
    disc = np.hypot(span[:, None], span[None, :]) <= EROSION_PX
    highest = ndimage.maximum_filter(label_HW, footprint=disc, mode="nearest")
    lowest = ndimage.minimum_filter(label_HW, footprint=disc, mode="nearest")
    return np.asarray(highest != lowest)


def eroded(label_HW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Like `coloured`, with black boundaries."""
    picture = coloured(label_HW)
    picture[boundary(label_HW)] = 0
    return picture
