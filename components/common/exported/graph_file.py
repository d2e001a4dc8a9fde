"""Check an ONNX file before any runtime opens it: nothing in it is executed, and it reads only the files it may.

In: an `.onnx` file. Out: its `GraphLayout`, or one sentence about what is wrong. A graph may use the operators of ONNX
and the contributed ones of ONNX Runtime; its weights lie in the file, or in `NAME.onnx.data` next to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.common.errors import WeightsError, reason
from components.common.exported.graph_layout import (
    ANSWERS,
    MOST_VALUES,
    GraphLayout,
    Report,
    layout_of,
    parsed,
    refused,
)
from components.common.exported.raster_layer import LAYER
from components.common.files import external_weights
from model.mobanet import on_meta

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

DOMAINS = {"", "ai.onnx", "com.microsoft"}
"""Sets of operators that ONNX Runtime has itself."""

FOREIGN = {"EPContext", "Snpe", "ATen", "PythonOp", "PythonOpGrad"}
"""Operators that read another file or leave ONNX Runtime, whatever their set."""

WEIGHTS = "network."
"""First part of the name of a weight in a graph."""

SIZED = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Resize": 3, "EyeLike": 0, "Pad": 1, "Range": 1}
"""Operators whose result has the size that an input states -> number of that input."""

LEAST_SHARE = 0.5
"""Least share of the network's weights that a graph of it must have."""


def check_graph(path: Path, report: Report = lambda sentence: None) -> GraphLayout:
    """Check a graph.

    Args:
        path: the file.
        report: called with every check that was passed.

    Raises:
        WeightsError: the file is no graph of this project, is damaged, or could do something else than compute.
    """
    try:
        return _checked(path, report)
    except WeightsError:
        raise
    except Exception as error:  # whatever a hostile network or constant leads to
        raise refused(path, f"not a readable graph of this project ({reason(error)})") from None


def _checked(path: Path, report: Report) -> GraphLayout:
    import onnx

    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
        metadata = parsed({entry.key: entry.value for entry in model.metadata_props})
    except Exception as error:  # DecodeError of protobuf, ValueError of JSON
        raise refused(path, f"not a readable graph of this project ({reason(error)})") from None
    layout = layout_of(path, metadata)
    report(f"metadata: {'format ' + str(metadata['format']) if 'format' in metadata else 'the facts of a model'}")
    _check_operators(path, model)
    report(f"operators: {sum(1 for _ in _nodes(model.graph))}, all known")
    tensors = list(_tensors(model.graph))
    for tensor in tensors:
        _check_tensor(path, tensor)
    _check_weights(path, model, layout)
    report(f"tensors: {len(tensors)}, of the sizes that they state, finite, and those of the network in the metadata")
    _check_values(path, model, layout)
    report("inputs and outputs: as the metadata say")
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:  # its own class, ValueError, RuntimeError
        raise refused(path, f"not a valid graph ({reason(error)})") from None
    report(f"structure: valid for ONNX {onnx.__version__}")
    return layout


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and those inside of its operators."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for part in _graphs(graph):
        yield from part.node


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """All constants: weights, and attributes of operators."""
    for part in _graphs(graph):
        yield from part.initializer
        for node in part.node:
            for attribute in node.attribute:
                yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)


def _check_operators(path: Path, model: ModelProto) -> None:
    for entry in model.opset_import:
        if entry.domain not in DOMAINS:
            raise refused(path, f"uses the operators {entry.domain!r}, which are not those of ONNX or ONNX Runtime")
    if model.functions or model.training_info:
        raise refused(path, "defines operators or a training of its own, which no file of this project does")
    for part in _graphs(model.graph):
        if part.sparse_initializer:
            raise refused(path, "has sparse weights, which no file of this project has")
    constants = {t.name: t for part in _graphs(model.graph) for t in part.initializer}
    constants |= {node.output[0]: tensor for node in _nodes(model.graph) for tensor in _constant(node)}
    for node in _nodes(model.graph):
        if node.domain not in DOMAINS or node.op_type in FOREIGN:
            raise refused(path, f"uses the operator {node.domain or 'ai.onnx'}.{node.op_type}, which is not allowed")
        if any(attribute.HasField("sparse_tensor") or attribute.sparse_tensors for attribute in node.attribute):
            raise refused(path, f"its operator {node.op_type} has a sparse constant, which no file of this project has")
        index = SIZED.get(node.op_type)
        if index is not None and index < len(node.input) and node.input[index] in constants:
            _check_size(path, node, constants[node.input[index]])


def _constant(node: NodeProto) -> Iterator[TensorProto]:
    """The value of an operator `Constant`, if it can be a size."""
    from onnx.numpy_helper import from_array

    for attribute in node.attribute if node.op_type == "Constant" and node.output else ():
        if attribute.name == "value":
            yield attribute.t
        elif attribute.name in ("value_int", "value_ints"):
            sizes = attribute.ints if attribute.name == "value_ints" else [attribute.i]
            yield from_array(np.array(sizes, np.int64))


def _check_size(path: Path, node: NodeProto, size: TensorProto) -> None:
    """Limit the memory that an operator with a constant size takes."""
    _check_tensor(path, size)
    if size.data_location != size.EXTERNAL and math.prod(size.dims) <= 16:
        from onnx.numpy_helper import to_array

        sizes = [abs(int(value)) for value in to_array(size).ravel()]
        if math.prod(value for value in sizes if value) > MOST_VALUES:
            raise refused(path, f"the operator {node.op_type} makes a tensor of {sizes}, more than memory can hold")


def _check_tensor(path: Path, tensor: TensorProto) -> None:
    """Check that a constant has the size that it states, lies where it may, and is finite."""
    from onnx import helper, numpy_helper

    name = tensor.name or "a constant"
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError):
        raise refused(path, f"{name} has the unknown type {tensor.data_type}") from None
    if dtype.kind not in "biufV" or any(size < 0 for size in tensor.dims):
        raise refused(path, f"{name} has the type {dtype} and the shape {list(tensor.dims)}")
    needed = math.prod(tensor.dims) * dtype.itemsize
    if tensor.data_location == tensor.EXTERNAL:
        _check_external(path, tensor, needed)
    elif tensor.HasField("raw_data") and len(tensor.raw_data) != needed:
        raise refused(
            path, f"{name} has {len(tensor.raw_data)} bytes, but its shape {list(tensor.dims)} needs {needed}"
        )
    elif not tensor.HasField("raw_data") and math.prod(tensor.dims) > tensor.ByteSize():
        raise refused(path, f"{name} has fewer values than its shape {list(tensor.dims)} needs")
    try:
        values = numpy_helper.to_array(tensor, str(path.parent))
    except Exception as error:  # whatever its values are
        raise refused(path, f"{name} is damaged ({reason(error)})") from None
    if values.dtype.kind == "f" and values.size > 1 and np.isnan(values).any():  # one NaN is what "not measured" is
        raise refused(path, f"{name} has a NaN value, so this model cannot be used")
    if tensor.name.startswith(WEIGHTS) and values.dtype.kind == "f" and not np.isfinite(values).all():
        raise refused(path, f"{name} has an infinite value, so this model cannot be used")


def _check_external(path: Path, tensor: TensorProto, needed: int) -> None:
    """Weights outside of the file may lie in one file next to it only."""
    fields = {entry.key: entry.value for entry in tensor.external_data}
    file = external_weights(path)
    if fields.get("location") != file.name:
        raise refused(
            path,
            f"{tensor.name} lies in {fields.get('location')!r}; weights outside of the file must be in {file.name}",
        )
    if file.is_symlink() or not file.is_file():
        raise refused(path, f"its weights are missing, because {file.name} is no file")
    try:
        start, length = int(fields.get("offset", "0")), int(fields.get("length", needed))
    except ValueError:
        raise refused(path, f"{tensor.name} has no numbers for its place in {file.name}") from None
    if length != needed or start < 0 or start + length > file.stat().st_size:
        raise refused(path, f"{tensor.name} needs {needed} bytes from {start} on, which {file.name} does not have")


def _check_weights(path: Path, model: ModelProto, layout: GraphLayout) -> None:
    """The weights must be those of a network as in the metadata; writers rename, merge and split some of them."""
    network = {name: tuple(value.shape) for name, value in on_meta(layout.facts.network).state_dict().items()}
    used = {name for node in _nodes(model.graph) for name in node.input} | {out.name for out in model.graph.output}
    values = 0
    for part in _graphs(model.graph):
        for tensor in part.initializer:
            if tensor.name not in used:
                raise refused(path, f"{tensor.name} is a tensor that no operator uses")
            values += math.prod(tensor.dims)
            name = tensor.name.removeprefix(WEIGHTS)
            if name == tensor.name:
                continue
            if name in network and tuple(tensor.dims) != network[name]:
                raise refused(
                    path,
                    f"{name} has the shape {list(tensor.dims)}, but the network in the metadata needs "
                    f"{list(network[name])}",
                )
            if name not in network and not _derived(name, network):
                raise refused(path, f"{name} is no weight of the network in the metadata")
    total = sum(math.prod(shape) for shape in network.values())
    if not LEAST_SHARE * total <= values <= total / LEAST_SHARE + MOST_VALUES // 2**11:
        raise refused(path, f"it has {values} weights, but the network in the metadata has {total}")


def _derived(name: str, network: dict[str, tuple[int, ...]]) -> bool:
    """Whether a tensor was made of a weight: its name is that of the weight and one or more endings."""
    while "_" in name:
        name = name.rpartition("_")[0]
        if name in network:
            return True
    return False


def _check_values(path: Path, model: ModelProto, layout: GraphLayout) -> None:
    """Inputs and outputs: names, types and shapes."""
    from onnx import TensorProto

    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value.type.tensor_type for value in model.graph.input if value.name not in constants}
    outputs = {value.name: value.type.tensor_type for value in model.graph.output}
    unused = {} if layout.layer else {"image": "rgb", "dsm": "dsm"}
    needed = {n for n in layout.shapes if n == LAYER or unused[n] in layout.facts.network.modalities}
    if not needed <= inputs.keys() <= layout.shapes.keys() or tuple(outputs) != layout.outputs:
        raise refused(
            path,
            f"it has the inputs {', '.join(inputs) or 'none'} and the outputs {', '.join(outputs) or 'none'}, unlike "
            "its metadata",
        )
    classes = len(layout.facts.classes)
    for name, value in (inputs | outputs).items():
        kind = TensorProto.UINT8 if name == "classes" else TensorProto.FLOAT
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in value.shape.dim]
        channels = layout.shapes.get(name, classes)
        wrong = value.elem_type != kind or len(sizes) != ANSWERS.get(name, 4)
        sides = sizes[-2:]
        if (
            wrong
            or (len(sizes) == 4 and sizes[1] != channels)
            or any(side not in (None, layout.facts.window_px) for side in sides)
        ):
            raise refused(path, f"{name} has the shape {sizes}, but the metadata say {channels} channels or classes")
