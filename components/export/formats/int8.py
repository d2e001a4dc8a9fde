"""Write a network as an ONNX graph with int8 weights, for CPUs.

Two variants, of the matrix products in the backbone; convolutions of the decoder stay float32, because their errors
change most pixels. `dynamic`: products are computed in int8, and the range of what they multiply is measured in every
call. `weights`: only the weights are int8, one scale per output channel, and products are computed in float32; the file
is as small, the answers are closer to the network's (`gptq`), and it is no faster.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from components.common.inference.modelfile import ModelFacts
from components.export.config import ExportConfig
from components.export.formats.derived_graph import float32_graph, save
from components.export.formats.gptq import input_moments, rounded
from components.export.parity.parity_cases import noise_cases
from model import MoBaNet

if TYPE_CHECKING:
    from onnx import ModelProto

SMALLEST = 256
"""Weights with fewer numbers stay float32."""


def write_int8_dynamic(path: Path, network: MoBaNet, facts: ModelFacts, config: ExportConfig) -> None:
    """Write a graph whose products with weights are computed in int8."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with float32_graph(path, network, facts, config) as source, TemporaryDirectory() as folder:
        graph, marked, made = onnx.load(source), onnx.load(source), Path(folder) / "int8.onnx"
        marked.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")  # else a warning
        with _quiet():
            quantize_dynamic(
                marked,
                made,
                weight_type=QuantType.QInt8,
                per_channel=True,
                nodes_to_quantize=_products(graph),
                extra_options={"MatMulConstBOnly": True},
            )
        save(path, onnx.load(made), graph, "onnx-int8", "int8")


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what is logged to the root logger itself, as the quantiser does for every tensor without a known range."""
    root = logging.getLogger()

    def drop(record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO

    root.addFilter(drop)
    try:
        yield
    finally:
        root.removeFilter(drop)


def _products(graph: ModelProto) -> list[str]:
    """Names of the matrix products with a weight of two dimensions; the positions of patches have four."""
    matrices = {entry.name for entry in graph.graph.initializer if len(entry.dims) == 2}
    return [node.name for node in graph.graph.node if node.op_type == "MatMul" and node.input[1] in matrices]


def write_int8_weights(path: Path, network: MoBaNet, facts: ModelFacts, config: ExportConfig) -> None:
    """Write a graph whose weights are int8."""
    import onnx

    with float32_graph(path, network, facts, config) as source:
        graph, made = onnx.load(source), onnx.load(source)
    quantise_weights(made, _products(made), facts)
    save(path, made, graph, "onnx-int8", "int8")


def quantise_weights(graph: ModelProto, names: Collection[str], facts: ModelFacts) -> None:
    """Replace the weights `[inputs, outputs]` of the named matrix products by int8 ones and their scales, in place.

    Calibration inputs are noise, because the validation crops decide whether the graph is good enough. `Cast` and `Mul`
    dequantise. ONNX Runtime would merge `DequantizeLinear` with the product, and round the inputs of the product too.
    """
    from onnx import TensorProto, helper, numpy_helper

    used = {node.input[1] for node in graph.graph.node if node.name in names}
    entries = [entry for entry in graph.graph.initializer if entry.name in used and np.prod(entry.dims) >= SMALLEST]
    calibration = (inputs for _, inputs, _ in noise_cases(facts))
    moments = input_moments(graph, [entry.name for entry in entries], facts, calibration)
    for place, entry in enumerate(entries):
        name = entry.name
        integers, scale = rounded(numpy_helper.to_array(entry), moments[name])
        stored, scales, restored = f"{name}_int8", f"{name}_scale", f"{name}_restored"
        graph.graph.initializer.remove(entry)
        graph.graph.initializer.append(numpy_helper.from_array(integers, stored))
        graph.graph.initializer.append(numpy_helper.from_array(scale, scales))
        cast = helper.make_node("Cast", [stored], [restored], f"{restored}_cast", to=TensorProto.FLOAT)
        scaled = helper.make_node("Mul", [restored, scales], [name], f"{restored}_scaled")
        graph.graph.node.insert(2 * place, cast)
        graph.graph.node.insert(2 * place + 1, scaled)
