"""What an exported file takes and gives, by its metadata; and the inputs of the network as the inputs of that file.

In: the metadata of an ONNX graph or a program of torch. Out: `GraphLayout`, which converts images of 0..255 and scaled
heights. Files of earlier versions take these as they are: their metadata have no `dsm_values`.
Letters: N samples, C image bands, K classes, H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.common.errors import WeightsError, printable
from components.common.exported.graph_inputs import GRAPH_KEYS, INPUTS, dsm_values, stored_heights, stored_pixels
from components.common.exported.raster_layer import KEY, LAYER, PROBABILITIES, channels, layer_of
from components.common.inference.given_sensors import both_given
from components.common.inference.modelfile import SIDES_PX, ModelFacts, condition_of, read_facts, temperature_of
from model.speed import Precision

Computed = Precision | Literal["float16", "int8"]
"""Precision of a computation; the last two are those of the weights in an exported file."""

Values = npt.NDArray[np.float32]

ANSWERS = {"logits": 4, "classes": 3, "confidence": 3, PROBABILITIES: 4}
"""Outputs that a file may have -> number of dimensions."""

SMALLEST = torch.finfo(torch.float32).tiny
"""Probability in place of 0, which has no logarithm."""

AGAIN = "run the export step again"

MOST_VALUES = 2**31
"""Most values of a tensor that a file makes of constant sizes."""

Report = Callable[[str], None]
"""Takes the sentence of a check that was passed."""


def refused(path: Path, what: str) -> WeightsError:
    """The error about a file that must not be used."""
    return WeightsError(f"{path}: {printable(what)}; {AGAIN}")


@dataclass(frozen=True, slots=True)
class GraphLayout:
    """How to feed a file, and what it answers."""

    facts: ModelFacts
    stored: bool  # whether it takes pixels as stored and heights in metres; False: as the network takes them
    layer: bool  # whether its only input is a raster layer, as for QGIS
    outputs: tuple[str, ...]  # names, in order
    precision: Computed  # of the weights in the file
    dynamic: tuple[str, ...] = ("N",)  # dimensions of an input that may vary: N, H, W
    multiple_px: int = 1  # H and W are multiples of it

    @property
    def shapes(self) -> dict[str, int]:
        """Name of every input -> number of channels."""
        if self.layer:
            return {LAYER: len(channels(self.facts))}
        return dict(zip(INPUTS, (len(self.facts.bands), 1), strict=True))

    def inputs(self, image_NCHW: Tensor | None, dsm_N1HW: Tensor | None) -> dict[str, Values]:
        """Inputs of the network, of which one may be None -> those of the file, by name.

        Args:
            image_NCHW: float32, 0..255; NaN: not measured; None: no sample has it.
            dsm_N1HW: float32, scaled heights; NaN: not measured; None: no sample has it.
        """
        image_NCHW, dsm_N1HW = both_given(image_NCHW, dsm_N1HW, len(self.facts.bands))
        if self.stored:
            image_NCHW, dsm_N1HW = stored_pixels(image_NCHW, self.facts), stored_heights(dsm_N1HW, self.facts)
        image, dsm = (x.float().cpu().contiguous().numpy() for x in (image_NCHW, dsm_N1HW))
        return {LAYER: layer_of(image, dsm, self.facts)} if self.layer else dict(zip(INPUTS, (image, dsm), strict=True))

    @property
    def wanted(self) -> str:
        """Name of the output that logits are made of."""
        return PROBABILITIES if self.layer else "logits"

    def logits(self, answer_NKHW: Tensor, image_NCHW: Tensor | None, dsm_N1HW: Tensor | None) -> Tensor:
        """Logits `[N, K, H, W]` of the output `wanted`; of probabilities, logits without their mean over the classes.

        The inputs are those of `inputs`: the file divides by the temperature of the sensors of a sample.
        """
        if not self.layer:
            return answer_NKHW
        given = zip(*(_has_value(x, len(answer_NKHW)) for x in (image_NCHW, dsm_N1HW)), strict=True)
        conditions = (condition_of(self.facts, image=image, dsm=dsm) for image, dsm in given)
        temperatures_N = torch.tensor([temperature_of(self.facts, name) or 1.0 for name in conditions])
        return answer_NKHW.clamp_min(SMALLEST).log() * temperatures_N[:, None, None, None]


def _has_value(x_NCHW: Tensor | None, samples: int) -> list[bool]:
    return [False] * samples if x_NCHW is None else (~x_NCHW.isnan()).flatten(1).any(1).tolist()


def layout_of(path: Path, metadata: Mapping[str, Any]) -> GraphLayout:
    """The layout of a file by its metadata.

    Args:
        path: the file, for messages.
        metadata: name -> value; of the graph for QGIS, the names of Deepness and `KEY`.

    Raises:
        WeightsError: the metadata are not those of a file of this project, contradict each other, or the file does not
            give logits.
    """
    layer = KEY in metadata
    content = dict(metadata[KEY] if layer else metadata)
    about = {name: content.pop(name) for name in (*GRAPH_KEYS, "channels") if name in content}
    try:
        facts = read_facts(path, content)
    except WeightsError:
        raise
    except Exception as error:
        what = "its metadata lack or misstate a fact"
        raise refused(
            path, f"not a readable graph of this project ({what}: {' '.join(str(error).split())[:120]})"
        ) from None
    outputs = tuple(about.get("outputs", ("logits",)))
    _require_outputs(path, outputs, layer)
    precision = about.get("precision_of_file", "float32")
    known = dsm_values(facts.heights)
    if about.get("dsm_values", known) != known:
        said = json.dumps(about["dsm_values"])[:60]
        raise refused(path, f"its metadata say that dsm_values is {said}, but its heights are {known}")
    if precision not in [name for kind in get_args(Computed) for name in get_args(kind)]:
        raise refused(path, f"its metadata name the precision {json.dumps(precision)[:60]}")
    multiple_px, dynamic = about.get("multiple_px", facts.window_px), tuple(about.get("dynamic", ("N",)))
    if type(multiple_px) is not int or multiple_px not in SIDES_PX or not set(dynamic) <= {"N", "H", "W"}:
        raise refused(path, "its metadata misstate multiple_px or dynamic")
    return GraphLayout(facts, "dsm_values" in about, layer, outputs, precision, dynamic, multiple_px)


def _require_outputs(path: Path, outputs: tuple[Any, ...], layer: bool) -> None:
    wanted = PROBABILITIES if layer else "logits"
    if not outputs or len(set(outputs)) != len(outputs) or not set(outputs) <= ANSWERS.keys():
        raise refused(path, f"its metadata name the outputs {json.dumps(outputs)[:100]}")
    if wanted not in outputs:
        raise WeightsError(
            f"{path}: this file gives {' and '.join(outputs)}, but predict and evaluate need {wanted}; export with "
            f'"{wanted}" in export.outputs, or use model.safetensors'
        )


def parsed(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Metadata of an ONNX file, in which every value is JSON.

    Raises:
        ValueError: a value is not JSON.
    """
    return {name: json.loads(value) for name, value in metadata.items()}
