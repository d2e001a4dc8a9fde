"""Write a network as an ONNX graph with int8 weights, for CPUs.

Two variants. `dynamic`: matrix products are computed in int8, and the range of what they multiply is measured in every
call. `weights`: only the weights are int8, one scale per output channel, and products are computed in float32; the file
is as small, the answers are closer to the network's, and it is no faster.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from components.common.inference.modelfile import ModelFacts
from components.export.config import ExportConfig
from components.export.formats.derived_graph import WEIGHTED, float32_graph, save
from model import MoBaNet

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

SMALLEST = 256
"""Weights with fewer numbers stay float32."""


def write_int8_dynamic(path: Path, network: MoBaNet, facts: ModelFacts, config: ExportConfig) -> None:
    """Write a graph whose products with weights are computed in int8."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with float32_graph(path, network, facts, config) as source, TemporaryDirectory() as folder:
        graph, made = onnx.load(source), Path(folder) / "int8.onnx"
        quantize_dynamic(
            source,
            made,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_quantize=_products(graph),
            extra_options={"MatMulConstBOnly": True},
        )
        save(path, onnx.load(made), graph, "onnx-int8", "int8")


def _products(graph: ModelProto) -> list[str]:
    """Names of the matrix products with a weight of two dimensions; the positions of patches have four."""
    matrices = {entry.name for entry in graph.graph.initializer if len(entry.dims) == 2}
    return [node.name for node in graph.graph.node if node.op_type == "MatMul" and node.input[1] in matrices]


def write_int8_weights(path: Path, network: MoBaNet, facts: ModelFacts, config: ExportConfig) -> None:
    """Write a graph whose weights are int8."""
    import onnx

    with float32_graph(path, network, facts, config) as source:
        graph, made = onnx.load(source), onnx.load(source)
    quantise_weights(made)
    save(path, made, graph, "onnx-int8", "int8")


def quantise_weights(graph: ModelProto) -> None:
    """Replace the float32 weights of convolutions and matrix products by int8 ones and their scales, in place."""
    import onnx
    from onnx import numpy_helper

    weights = {entry.name: entry for entry in graph.graph.initializer}
    axes = {node.input[1]: axis for node in graph.graph.node if (axis := _channel_axis(node)) is not None}
    added: list[NodeProto] = []
    for name, axis in axes.items():
        entry = weights.get(name)
        if entry is None or entry.data_type != onnx.TensorProto.FLOAT or np.prod(entry.dims) < SMALLEST:
            continue
        values = numpy_helper.to_array(entry)
        axis %= values.ndim
        others = tuple(i for i in range(values.ndim) if i != axis)
        scale = np.abs(values).max(axis=others, keepdims=True) / np.float32(127)
        scale[scale == 0] = 1
        whole = np.rint(values / scale).astype(np.int8)
        stored, scales = f"{name}_int8", f"{name}_scale"
        graph.graph.initializer.remove(entry)
        graph.graph.initializer.append(numpy_helper.from_array(whole, stored))
        graph.graph.initializer.append(numpy_helper.from_array(scale.ravel().astype(np.float32), scales))
        added.append(onnx.helper.make_node("DequantizeLinear", [stored, scales], [name], f"{name}_float32", axis=axis))
    nodes = [*added, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def _channel_axis(node: NodeProto) -> int | None:
    """Axis of the output channels of a node's weight; None: it has none."""
    if node.op_type not in WEIGHTED:
        return None
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 0 if transposed else 1
    return 0 if node.op_type == "Conv" else -1
