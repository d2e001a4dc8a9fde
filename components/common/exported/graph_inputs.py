"""What an exported graph takes: pixels as stored in files and heights in metres, not the inputs of the network.

In: the facts of a model, and inputs as the network's steps know them (image 0..255, scaled heights). Out: the inputs of
a graph. So a graph can be compared with the network, and predict can run it. NaN stays NaN.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from components.common.data.store import Heights
from components.common.inference.modelfile import ModelFacts

Values = TypeVar("Values", npt.NDArray[np.floating], Tensor)

DsmValues = Literal["metres", "metres above ground", "scaled"]

INPUTS = ("image", "dsm")
"""Names of the inputs of a graph: `image` `[N, bands, H, W]` and `dsm` `[N, 1, H, W]`, float32."""

GRAPH_KEYS = ("dsm_values", "dynamic", "format", "multiple_px", "opset", "outputs", "precision_of_file")
"""Metadata of a graph in addition to the fields of `ModelFacts`. A graph without `dsm_values` is of an earlier version
and takes an image of 0..255 and scaled heights."""


def dsm_values(heights: Heights) -> DsmValues:
    """What the input `dsm` of a graph holds.

    Heights above ground need a neighbourhood larger than a window, and percentiles of a tile need the tile. So a graph
    takes heights above ground in the first case, and heights that are scaled already in the second one.
    """
    if heights.offset_m is None or heights.scale_m is None:
        return "scaled"
    relative = heights.ground_radius_m is not None or heights.relative_to == "ground"
    return "metres above ground" if relative else "metres"


def stored_pixels(image: Values, facts: ModelFacts) -> Values:
    """Pixels as stored of an image of 0..255 with any shape."""
    low, high = facts.image_range
    return image / 255 * (high - low) + low


def stored_heights(dsm: Values, facts: ModelFacts) -> Values:
    """Heights as a graph takes them, of scaled heights with any shape; metres, except where they stay scaled."""
    offset_m, scale_m = facts.heights.offset_m, facts.heights.scale_m
    if offset_m is None or scale_m is None:
        return dsm
    return dsm * scale_m + offset_m
