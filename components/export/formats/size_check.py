"""Let a graph refuse inputs whose height or width it cannot take; ONNX Runtime itself knows no such rule.

Without the check, the last rows and columns of such an input are in no patch, and the classes get worse with no error.
In: a traced graph. Out: the same graph, in which every input passes through an operation that fails for these sizes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx_ir import Graph, Value


def refuse_other_sizes(graph: Graph, multiple: int) -> None:
    """Change a graph in place so that it fails unless height and width are multiples of a number, from two on.

    The message of the runtime has the name of the operation, which says what is wrong.

    Args:
        graph: its inputs are float32 `[N, C, H, W]`; those that no operation uses are not checked.
        multiple: pixels.
    """
    for image in graph.inputs:
        if image.uses():
            _check(graph, image, multiple)


def _check(graph: Graph, image: Value, multiple: int) -> None:
    """Add to the input a 0 that can only be computed for the right sizes: one value as a vector of 1 + `wrong`."""
    import onnx_ir

    uses = list(image.uses())
    start, made = f"{image.name}_sides", []

    def constant(name: str, value: np.ndarray) -> Value:
        entry = onnx_ir.Value(name=f"{start}_{name}", const_value=onnx_ir.tensor(value, name=f"{start}_{name}"))
        graph.register_initializer(entry)
        return entry

    def add(kind: str, name: str, inputs: list[Value], dtype: onnx_ir.DataType, shape: list[int | str]) -> Value:
        result = onnx_ir.Value(name=f"{start}_{name}", type=onnx_ir.TensorType(dtype), shape=onnx_ir.Shape(shape))
        attributes = [onnx_ir.AttrInt64("start", 2)] if kind == "Shape" else []
        made.append(onnx_ir.Node("", kind, inputs, attributes, outputs=[result], name=f"{start}_{name}"))
        return result

    whole, float32 = onnx_ir.DataType.INT64, onnx_ir.DataType.FLOAT
    sides = add("Shape", "px", [image], whole, [2])
    rest = add("Mod", "rest", [sides, constant("multiple", np.array([multiple], np.int64))], whole, [2])
    missing = add("Sub", "missing", [constant("least", np.array([2 * multiple], np.int64)), sides], whole, [2])
    wrong = add("Max", "wrong", [rest, missing], whole, [2])  # 0 for a side that is right, else positive
    total = add("ReduceSum", "all_wrong", [wrong], whole, [1])
    length = add("Add", "length", [total, constant("one", np.array([1], np.int64))], whole, [1])
    name = f"must_be_multiples_of_{multiple}_px_from_{2 * multiple}_px_on"
    zero = add("Reshape", name, [constant("zero", np.zeros(1, np.float32)), length], float32, [1])
    checked = add("Add", "checked", [image, zero], float32, [])
    checked.shape = image.shape
    graph.insert_before(graph[0], made)
    for use in uses:
        use.node.replace_input_with(use.idx, checked)
