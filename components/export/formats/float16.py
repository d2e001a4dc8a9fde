"""Write a network as an ONNX graph with weights and most operations in float16; inputs and outputs stay float32.

Only operations between the first and the last weights become float16: a height of 1000 m has steps of half a metre in
float16, and logits that are nearly equal would become equal. Sums and powers stay float32 as well. ONNX Runtime's own
converter casts between neighbours that stay float32, which loses what they are kept for, so it is not used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.common.inference.modelfile import ModelFacts
from components.export.config import ExportConfig
from components.export.formats.derived_graph import FormatError, between_weights, float32_graph, save
from model import MoBaNet

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

HALF = frozenset(
    "Add Clip Concat Conv Div Erf Expand Flatten Gather Gelu Gemm Identity MatMul Mul Neg Pad Relu Reshape Sigmoid "
    "Slice Split Squeeze Sub Tanh Transpose Unsqueeze Where".split()
)
"""Operations that are computed in float16; all others stay float32."""

LARGEST = float(np.finfo(np.float16).max)


def write_float16(path: Path, network: MoBaNet, facts: ModelFacts, config: ExportConfig) -> None:
    """Write the graph to `path`."""
    import onnx

    with float32_graph(path, network, facts, config) as source:
        graph, made = onnx.load(source), onnx.load(source)
    to_float16(made)
    save(path, made, graph, "onnx-float16", "float16")


def to_float16(model: ModelProto) -> None:
    """Convert the operations between weights in place; every value that both kinds of operations use is cast once."""
    inner, floats, graph = between_weights(model), _float_values(model), model.graph
    half = {node.name for node in graph.node if node.name in inner and node.op_type in HALF}
    wanted = {name for node in graph.node if node.name in half for name in node.input if name in floats}
    kept = {name for node in graph.node if node.name not in half for name in node.input}
    kept |= {value.name for value in graph.output}
    _round_weights(model, wanted, kept)
    nodes = [_cast(value.name, _half(value.name)) for value in graph.input if value.name in wanted]
    for node in graph.node:
        made = [name for name in node.output if name in floats]
        nodes.append(node)
        if node.name in half:
            for names in (node.input, node.output):
                names[:] = [_half(name) if name in floats else name for name in names]
            nodes += [_cast(_half(name), name) for name in made if name in kept]
        else:
            nodes += [_cast(name, _half(name)) for name in made if name in wanted]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]  # deleting clears the originals
    del graph.node[:]
    graph.node.extend(copies)
    del graph.value_info[:]


def _half(name: str) -> str:
    return f"{name}_float16"


def _cast(name: str, result: str) -> NodeProto:
    """Cast to float16 if the result has that name, else to float32."""
    import onnx

    to = onnx.TensorProto.FLOAT16 if result == _half(name) else onnx.TensorProto.FLOAT
    return onnx.helper.make_node("Cast", [name], [result], f"{result}_cast", to=to)


def _float_values(model: ModelProto) -> set[str]:
    """Names of all values of type float32; the exporter writes the type of every value."""
    import onnx

    graph = model.graph
    values = {
        value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)
    }
    values |= {entry.name: entry.data_type for entry in graph.initializer}
    unknown = [name for node in graph.node for name in node.output if name and name not in values]
    if unknown:
        raise FormatError(f"{unknown[0]}: a value of the graph has no type")
    return {name for name, kind in values.items() if kind == onnx.TensorProto.FLOAT}


def _round_weights(model: ModelProto, wanted: set[str], kept: set[str]) -> None:
    """Add the constants that are wanted in float16, and remove those that nothing needs in float32."""
    from onnx import numpy_helper

    graph = model.graph
    entries = [entry for entry in graph.initializer if entry.name in wanted]
    rounded = [
        numpy_helper.from_array(
            numpy_helper.to_array(entry).clip(-LARGEST, LARGEST).astype(np.float16), _half(entry.name)
        )
        for entry in entries
    ]
    for entry in entries:
        if entry.name not in kept:
            graph.initializer.remove(entry)
    graph.initializer.extend(rounded)
