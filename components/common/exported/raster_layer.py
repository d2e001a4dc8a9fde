"""What `model_qgis.onnx` takes: one raster layer with the bands of the image and then the DSM, divided by 255.

In: the facts of a model, and the inputs of other graphs (pixels as stored, heights as `graph_inputs.dsm_values` says).
Out: the layer as QGIS Deepness feeds it. So a test can compare that file with the network, and predict can run it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from components.common.inference.modelfile import ModelFacts

KEY = "mobanet"
"""Metadata with everything that our own programs need, one JSON object: the fields of `ModelFacts`, `GRAPH_KEYS` and
`channels`. The other metadata of the file are those of Deepness."""

LAYER, PROBABILITIES = "layer", "probabilities"
"""Input and output of the graph."""

DSM = "dsm"
"""Name of the channel with the heights, always the last one."""

DIVISOR = 255.0
"""Deepness divides every channel by this, also heights in metres."""


def channels(facts: ModelFacts) -> tuple[str, ...]:
    """Names of the bands of the layer, in order: those of the image, then the DSM, as far as the network uses them."""
    used = facts.network.modalities
    return (facts.bands if "rgb" in used else ()) + ((DSM,) if "dsm" in used else ())


def layer_of(
    image_NCHW: npt.NDArray[np.float32], dsm_N1HW: npt.NDArray[np.float32], facts: ModelFacts
) -> npt.NDArray[np.float32]:
    """The input of the graph, float32 `[N, channels, H, W]`; NaN where not measured.

    Args:
        image_NCHW: pixels as stored.
        dsm_N1HW: heights, as the other graphs of the model take them.
        facts: facts of the model.
    """
    given = {"rgb": image_NCHW, "dsm": dsm_N1HW}
    layer = np.concatenate([given[name] for name in given if name in facts.network.modalities], axis=1)
    return np.ascontiguousarray(layer * np.float32(1 / DIVISOR), dtype=np.float32)
