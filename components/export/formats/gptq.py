"""Round the weights of a matrix product so that later rows make up for the errors of earlier ones (GPTQ).

In: weights, and the second moments of what they are multiplied with. Out: int8 weights and a scale per output. Rows of
inputs resemble each other, so the errors of weights that are rounded to the nearest add up.
Source: Frantar et al., "GPTQ", arXiv 2210.17323, with rows in their own order.
Letters: I inputs, O outputs of a product; N rows of inputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from components.common.inference.modelfile import ModelFacts
from components.export.formats.derived_graph import TWO_GB
from components.export.parity.parity_cases import Inputs
from components.export.parity.runtimes import open_file

if TYPE_CHECKING:
    from onnx import ModelProto

LARGEST = 127
"""Rounded weights are -127..127."""

DAMPING = 0.03
"""Share of the mean square of the inputs that is added to each: they are only an example of what a network sees."""

ROWS = 128
"""Rows that are rounded one by one before the rows after them are corrected."""

Moments = npt.NDArray[np.float64]
"""Sum over rows x of inputs of the products `x^T x`, `[I, I]`."""


def input_moments(
    graph: ModelProto, weights: Iterable[str], facts: ModelFacts, examples: Iterable[Inputs]
) -> dict[str, Moments]:
    """Measure what weights are multiplied with.

    Args:
        graph: a float32 graph; it is not changed.
        weights: names of weights, each the second input of matrix products.
        facts: facts of the network.
        examples: inputs of the graph.

    Returns:
        Name of a weight -> second moments of the inputs of all its products.
    """
    import onnx

    wanted = set(weights)
    products = [node for node in graph.graph.node if node.op_type == "MatMul" and node.input[1] in wanted]
    open_graph = onnx.ModelProto()
    open_graph.CopyFrom(graph)
    for name in dict.fromkeys(node.input[0] for node in products):
        open_graph.graph.output.add(name=name, type=onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "open.onnx"
        onnx.save(open_graph, path, save_as_external_data=open_graph.ByteSize() >= TWO_GB)
        run = open_file(path, facts)
        moments: dict[str, Moments] = {}
        for inputs in examples:
            values = run(*inputs)
            for node in products:
                x = values[node.input[0]]
                x_NI = x.reshape(-1, x.shape[-1])
                moments[node.input[1]] = moments.get(node.input[1], 0.0) + (x_NI.T @ x_NI).astype(np.float64)
    return moments


def rounded(
    weights_IO: npt.NDArray[np.float32], moments_II: Moments
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round weights.

    Args:
        weights_IO: weights `[I, O]`, finite.
        moments_II: second moments `[I, I]` of their inputs.

    Returns:
        Whole weights `[I, O]`, -127..127, and the scales `[O]` that they are multiplied with.
    """
    scale_O = np.abs(weights_IO).max(axis=0) / np.float32(LARGEST)
    scale_O[scale_O == 0] = 1
    upper_II = _corrections(moments_II)
    left_IO = weights_IO.astype(np.float64)  # the weights, corrected for the errors of the rows above
    whole_IO = np.zeros(weights_IO.shape, np.int8)
    for start in range(0, len(left_IO), ROWS):
        end = min(start + ROWS, len(left_IO))
        errors = np.zeros((end - start, left_IO.shape[1]))
        for row in range(start, end):
            whole_IO[row] = np.rint(left_IO[row] / scale_O).clip(-LARGEST, LARGEST)
            errors[row - start] = (left_IO[row] - whole_IO[row] * scale_O) / upper_II[row, row]
            left_IO[row + 1 : end] -= np.outer(upper_II[row, row + 1 : end], errors[row - start])
        left_IO[end:] -= upper_II[start:end, end:].T @ errors
    return whole_IO, scale_O


def _corrections(moments_II: Moments) -> Moments:
    """Upper triangle U with U^T U the inverse of the damped moments: row i tells how an error in i is made up for."""
    mean = np.diag(moments_II).mean()
    damped_II = moments_II + (DAMPING * mean or 1.0) * np.eye(len(moments_II))
    upper_II = np.linalg.cholesky(np.linalg.inv(damped_II)).T
    return upper_II.astype(np.float64)
