"""Label pictures -> class numbers, tolerant of colours that a lossy re-encoding has moved.

In: `[H, W, 3]` uint8 RGB. Out: `[H, W]` uint8 with classes 0..K-1 and 255 = ignore. Each channel is cut at 127, which
leaves the eight corners of the colour cube: those of the palette, black (an eroded boundary: ignored), and those of
no class (unknown: ignored).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.common.errors import DataError
from components.common.isprs import IGNORE, palette

THRESHOLD = 127
"""A channel above it counts as 255, otherwise as 0."""

INEXACT = 8
"""Marks a channel value that is neither 0 nor 255; beyond the three bits of a corner, wherever it is shifted to."""

UNKNOWN = 254
"""Stands for a corner without a class until it is counted."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A label picture as classes."""

    y_HW: npt.NDArray[np.uint8]  # 0..K-1, 255 = ignore
    snapped_px: int  # placed by the threshold: not exactly a colour of the palette, nor black
    unknown_px: int  # in a corner without a class; ignored


def decode(rgb_HW3: npt.NDArray[np.uint8]) -> Decoded:
    """Turn colours into classes and count what was not exact."""
    corner_HW = _corners(rgb_HW3)
    y_HW = _class_of_corner()[corner_HW % INEXACT]
    unknown_HW = y_HW == UNKNOWN
    snapped_px = int(np.count_nonzero((corner_HW >= INEXACT) & ~unknown_HW))
    y_HW[unknown_HW] = IGNORE
    return Decoded(y_HW, snapped_px, int(np.count_nonzero(unknown_HW)))


def require_known(path: Path, rgb_HW3: npt.NDArray[np.uint8], decoded: Decoded, max_share: float) -> None:
    """Refuse a label picture with too many unknown colours.

    Args:
        path: its file, for the message.
        rgb_HW3: its colours.
        decoded: what `decode` made of them.
        max_share: share of unknown pixels that is tolerated, 0..1.

    Raises:
        DataError: there are more; the sentence shows one of them.
    """
    share = decoded.unknown_px / decoded.y_HW.size
    if share <= max_share:
        return
    unknown_HW = _class_of_corner()[_corners(rgb_HW3) % INEXACT] == UNKNOWN
    row, column = np.unravel_index(int(unknown_HW.argmax()), unknown_HW.shape)
    red, green, blue = (int(value) for value in rgb_HW3[row, column])
    raise DataError(
        f"{path}: {100 * share:.3g} % of the pixels have a colour of no class, for example RGB {red}, {green}, {blue} "
        f"at row {row}, column {column}; at most {100 * max_share:.3g} % are ignored: mend the file's colours or raise "
        "preprocess.max_unknown_share"
    )


def _corners(rgb_HW3: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Corner 0..7 of the colour cube as three bits, red first; plus a multiple of `INEXACT` if a channel is between."""
    values = np.arange(256)
    bit: npt.NDArray[np.uint8] = ((values > THRESHOLD) + INEXACT * ((values > 0) & (values < 255))).astype(np.uint8)
    red, green, blue = (bit[rgb_HW3[..., channel]] for channel in range(3))
    return (red << 2 | green << 1 | blue).astype(np.uint8, copy=False)


def _class_of_corner() -> npt.NDArray[np.uint8]:
    """Class of each of the eight corners."""
    classes = np.full(8, UNKNOWN, np.uint8)
    classes[0] = IGNORE
    for label, colour in enumerate(palette()):
        classes[int(_corners(colour[None, None])[0, 0]) % INEXACT] = label
    return classes
