"""Write a network as a program of `torch.export`, which plain torch opens: no code of this project, no pickle.

In: a network and its facts. Out: a `.pt2` file with the inputs, outputs and metadata of the ONNX graph; the metadata
are the extra file `mobanet`, one JSON object. The bytes depend on the arguments only.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from components.common.files import replacing
from components.common.inference.modelfile import HEADER, ModelFacts
from components.export.config import ExportConfig
from components.export.formats.free_sizes import free_dimensions, multiple_px, traceable
from components.export.formats.onnx_graph import input_shapes, metadata
from components.export.formats.servable import Servable
from model import MoBaNet
from model.speed import fuse_attention

KEPT_META = ("val", "tensor_meta")
"""What a node keeps: the shapes. The rest says where the code lies on the exporting machine, and names its classes."""


def write_pt2(path: Path, network: MoBaNet, facts: ModelFacts, config: ExportConfig) -> None:
    """Write the program to `path`; it takes any number of samples, of any size where the backbone allows that.

    Args:
        path: file to write.
        network: in evaluation mode, on the CPU.
        facts: its facts.
        config: section `export`; of it, `outputs`, which the program returns in this order.
    """
    multiple = multiple_px(network, facts.window_px)
    free = free_dimensions(multiple)
    shapes = input_shapes(facts)
    with traceable(network):
        fuse_attention(network, True)  # unlike ONNX, torch has the kernel; `traceable` restores the setting
        program = torch.export.export(
            Servable(network, facts, config.outputs).eval(),
            tuple(torch.zeros(2, *shape) for shape in shapes.values()),
            dynamic_shapes=tuple(dict(free) for _ in shapes),
        )
    _forget_source(program)
    described = metadata(facts, config, "pt2", "float32", multiple)
    fields = {name: json.loads(value) for name, value in described.items()}
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={HEADER: json.dumps(fields, allow_nan=False)})
    with replacing(path) as draft:
        draft.write_bytes(content.getvalue())


def _forget_source(program: ExportedProgram) -> None:
    """Remove paths of the exporting machine, names of our classes, and the examples, which torch stores as a pickle."""
    program.example_inputs = None
    limits = program.range_constraints  # of free sizes; torch orders them by hash, so differently in every process
    ordered = sorted(limits.items(), key=lambda item: str(item[0]))
    limits.clear()
    limits.update(ordered)
    for module in program.graph_module.modules():
        graph: Any = getattr(module, "graph", None)
        for node in graph.nodes if graph is not None else ():
            for name in [name for name in node.meta if name not in KEPT_META]:
                del node.meta[name]
