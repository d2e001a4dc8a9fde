"""`model_qgis.onnx`: a graph that the plugin Deepness of QGIS opens as it is.

Deepness feeds one raster layer, a tile of fixed size at a time, and prepares it in its own way: it divides every band
by 255, pads the borders with 0, and knows no nodata. So the graph takes back the 1/255, finds what was not measured,
and does everything else as the other graphs do. It gives probabilities, because Deepness applies a threshold to them.
Letters: B batch, C channels of the layer, K classes, S side of a tile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from components.common.data.height_scaling import PLAUSIBLE_M
from components.common.exported.graph_inputs import dsm_values
from components.common.exported.raster_layer import DIVISOR, KEY, LAYER, PROBABILITIES, channels
from components.common.inference.modelfile import ModelFacts
from components.export.config import ExportConfig
from components.export.formats.onnx_graph import metadata, write_graph
from components.export.formats.servable import Probabilities, StoredInputs
from model import MoBaNet

NEWEST_OPSET = 20
"""Deepness pins ONNX Runtime 1.17, which knows this operator set and IR version 9."""

OVERLAP_PERCENT = 16
"""How far tiles overlap, of their side; as `predict.overlap` by default."""


class LayerServable(nn.Module):
    """A network that takes one raster layer, as Deepness feeds it, and gives probabilities."""

    def __init__(self, network: MoBaNet, facts: ModelFacts) -> None:
        """Wrap a network; `facts` say how its inputs were prepared."""
        super().__init__()
        self.network = network
        self.inputs, self.probabilities = StoredInputs(facts), Probabilities(facts)
        self.bands, self.modalities = len(facts.bands), facts.network.modalities

    def forward(self, layer_BCSS: Tensor) -> Tensor:
        """Probabilities `[B, K, S, S]`, 0..1.

        Args:
            layer_BCSS: bands of the image as stored, then the DSM, all divided by 255; NaN where not measured.
        """
        values_BCSS = layer_BCSS * DIVISOR  # the image becomes whole again when it is rounded
        absent_B1SS = torch.full_like(values_BCSS[:, :1], torch.nan)
        image_BCSS, dsm_B1SS = absent_B1SS.expand(-1, self.bands, -1, -1), absent_B1SS
        if "dsm" in self.modalities:
            dsm_B1SS = values_BCSS[:, -1:]
        if "rgb" in self.modalities:
            image_BCSS = values_BCSS[:, : self.bands]
            beyond_B1SS = beyond_raster(image_BCSS, dsm_B1SS)
            image_BCSS, dsm_B1SS = (x.masked_fill(beyond_B1SS, torch.nan) for x in (image_BCSS, dsm_B1SS))
        rgb_BCSS, heights_B1SS = self.inputs(image_BCSS, dsm_B1SS)
        logits_BKSS = cast(Tensor, self.network(rgb_BCSS, heights_B1SS))
        return cast(Tensor, self.probabilities(logits_BKSS, rgb_BCSS, heights_B1SS))


def beyond_raster(image_BCSS: Tensor, dsm_B1SS: Tensor) -> Tensor:
    """Which pixels lie beyond the edges of the raster, bool `[B, 1, S, S]`: those with which Deepness pads a tile.

    A raster is a rectangle, so padding consists of complete rows and complete columns of a tile: the image is 0 in all
    bands, and there is no height, or it is 0. A black pixel within the raster is none of them, and stays black.
    """
    low_m, high_m = PLAUSIBLE_M
    height_B1SS = (dsm_B1SS > low_m) & (dsm_B1SS < high_m) & (dsm_B1SS != 0)
    content_B1SS = torch.maximum((image_BCSS != 0).float().amax(1, keepdim=True), height_B1SS.float())
    return (content_B1SS.amax(3, keepdim=True) == 0) | (content_B1SS.amax(2, keepdim=True) == 0)


def write_qgis(path: Path, network: MoBaNet, facts: ModelFacts, config: ExportConfig) -> None:
    """Write the graph to `path`, with the input `layer` `[N, C, S, S]`, float32."""
    bands, side, opset = channels(facts), facts.window_px, min(config.opset, NEWEST_OPSET)
    write_graph(
        path,
        LayerServable(network, facts),
        {LAYER: (len(bands), side, side)},
        {PROBABILITIES: ["N", len(facts.classes), side, side]},
        opset,
        deepness_metadata(facts) | {KEY: json.dumps(own_metadata(facts, config, opset), allow_nan=False)},
    )


def deepness_metadata(facts: ModelFacts) -> dict[str, str]:
    """What Deepness reads, each value as JSON. Its code reads `tile_size`; its documentation says `tiles_size`."""
    bands = channels(facts)
    values = {
        "model_type": "Segmentor",
        "class_names": {str(index): name for index, name in enumerate(facts.classes)},
        "resolution": round(100 * facts.gsd_m, 6),  # centimetres per pixel
        "tile_size": facts.window_px,
        "tiles_size": facts.window_px,
        "tiles_overlap": OVERLAP_PERCENT,
        "standardization_mean": [0.0] * len(bands),
        "standardization_std": [1.0] * len(bands),
        "seg_thresh": 0,  # with 0.5, the plugin's own value, pixels of low confidence become class 0
        "seg_small_segment": 0,  # no blur
        "bands": list(bands),  # from here on for people
        "dsm_values": dsm_values(facts.heights),
    }
    return {name: json.dumps(value, allow_nan=False) for name, value in values.items()}


def own_metadata(facts: ModelFacts, config: ExportConfig, opset: int) -> Mapping[str, Any]:
    """What our own programs read: the metadata of our other graphs, and the names of the channels."""
    known = {name: json.loads(value) for name, value in metadata(facts, config, "qgis", "float32").items()}
    return known | {"channels": channels(facts), "opset": opset, "outputs": [PROBABILITIES]}
