"""Write a network as an ONNX graph that takes pixels as stored and heights in metres.

In: a network and its facts. Out: an ONNX file, float32, with the inputs `image` `[N, bands, H, W]` and `dsm`
`[N, 1, H, W]`, and the outputs of `export.outputs`. N is dynamic; H and W are multiples of the side of a patch, or
fixed to the window size of training where the backbone needs that. A sample whose input is NaN everywhere lacks that
sensor. The graph computes it as the network computes a batch without that sensor, also next to samples with other
sensors.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from components.common.exported.graph_inputs import dsm_values
from components.common.inference.modelfile import ModelFacts
from components.export.config import ExportConfig
from components.export.formats.free_sizes import free_dimensions, multiple_px, traceable
from components.export.formats.servable import Servable
from components.export.formats.size_check import refuse_other_sizes
from model import MoBaNet

if TYPE_CHECKING:
    from onnx_ir import Model

AXES = ("N", "C", "H", "W")
"""Names of the free dimensions of an input, by position."""


def ir_version(opset: int) -> int:
    """The IR version of a graph: the oldest that knows the operator set, so that old runtimes can read the file."""
    return 9 if opset <= 20 else 10


def input_shapes(facts: ModelFacts) -> dict[str, tuple[int, int, int]]:
    """Shape of one sample of each input: (channels, rows, columns)."""
    side = facts.window_px
    return {"image": (len(facts.bands), side, side), "dsm": (1, side, side)}


def metadata(
    facts: ModelFacts, config: ExportConfig, name: str, precision: str, multiple: int | None = None
) -> dict[str, str]:
    """Metadata of a graph, each value as JSON: the fields of the facts, and `GRAPH_KEYS`.

    Args:
        facts: facts of the model.
        config: section `export`.
        name: of the format.
        precision: of the weights in the file.
        multiple: height and width may be any multiple of this, pixels, from two on; None: only the window's side.
    """
    more = {
        "dsm_values": dsm_values(facts.heights),
        "dynamic": ["N"] if multiple is None else ["N", "H", "W"],
        "format": name,
        "multiple_px": multiple or facts.window_px,
        "opset": config.opset,
        "outputs": config.outputs,
        "precision_of_file": precision,
    }
    return {key: json.dumps(value, allow_nan=False) for key, value in (asdict(facts) | more).items()}


def write_onnx(path: Path, network: MoBaNet, facts: ModelFacts, config: ExportConfig) -> None:
    """Write the graph to `path`; weights above 2 GB, the limit of an ONNX file, go to a second file next to it."""
    multiple = multiple_px(network, facts.window_px)
    side: list[str | int] = [facts.window_px] * 2 if multiple is None else ["H", "W"]
    shapes = {"logits": ["N", len(facts.classes), *side], "classes": ["N", *side], "confidence": ["N", *side]}
    write_graph(
        path,
        Servable(network, facts, config.outputs),
        input_shapes(facts),
        {name: shapes[name] for name in config.outputs},
        config.opset,
        metadata(facts, config, "onnx", "float32", multiple),
        multiple,
    )


def write_graph(
    path: Path,
    module: nn.Module,
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, list[str | int]],
    opset: int,
    properties: Mapping[str, str],
    multiple: int | None = None,
) -> None:
    """Trace a module and write it as ONNX; the bytes depend on the arguments only.

    Args:
        path: file to write.
        module: what to trace.
        inputs: name -> shape of one sample, in the order of the module's arguments.
        outputs: name -> shape, in the order in which the module returns them.
        opset: operator set.
        properties: metadata of the file.
        multiple: height and width may be any multiple of this, pixels, from two on, and the graph refuses other sizes;
            None: only the number of samples is free.
    """
    import onnx
    import onnx_ir

    free = free_dimensions(multiple)
    for library in ("onnxscript", "onnx_ir"):
        logging.getLogger(library).setLevel(logging.ERROR)  # they log every node
    with warnings.catch_warnings(), traceable(module):
        warnings.filterwarnings("ignore", message="# The axis name")  # both inputs have the same N on purpose
        program = torch.onnx.export(
            module.eval(),
            tuple(torch.zeros(2, *shape) for shape in inputs.values()),
            dynamo=True,
            opset_version=opset,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple(dict(free) for _ in inputs),
            verbose=False,
        )
    assert program is not None
    graph = program.model.graph
    _forget_source(program.model)
    named = [
        [AXES[axis] if axis in free else size for axis, size in enumerate((0, *shape))] for shape in inputs.values()
    ]
    for value, shape in zip((*graph.inputs, *graph.outputs), (*named, *outputs.values()), strict=True):
        value.shape = onnx_ir.Shape(shape)
    if multiple is not None:
        refuse_other_sizes(graph, multiple)
    program.model.ir_version = ir_version(opset)
    program.model.metadata_props.update(properties)
    program.save(str(path))
    onnx.checker.check_model(str(path))


def _forget_source(model: Model) -> None:
    """Remove the source location of every node, which has paths, and torch's notes, whose order changes by process."""
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
