"""Round the weights of a matrix product; later rows compensate for the rounding errors of earlier ones (GPTQ).

In: weights, and the second moments of their inputs. Out: int8 weights and a scale per output. If every weight is
rounded to the nearest integer, the errors add up, because the inputs of a product are correlated.
Source: Frantar et al., "GPTQ", arXiv 2210.17323, without its reordering of rows.
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
"""Share of the mean square input that is added to the diagonal of the moments; real inputs differ from noise."""

ROWS = 128
"""Size of a block: rows after it are corrected once per block."""

Moments = npt.NDArray[np.float64]
"""Sum of `x^T x` over the rows x of the inputs, `[I, I]`."""


def input_moments(
    graph: ModelProto, weights: Iterable[str], facts: ModelFacts, calibration: Iterable[Inputs]
) -> dict[str, Moments]:
    """Compute the second moments of the inputs of matrix products.

    Args:
        graph: a float32 graph; it is not changed.
        weights: names of weights, each the second input of matrix products.
        facts: facts of the network.
        calibration: inputs of the graph.

    Returns:
        Name of a weight -> second moments of the inputs of all its products.
    """
    import onnx

    wanted = set(weights)
    products = [node for node in graph.graph.node if node.op_type == "MatMul" and node.input[1] in wanted]
    probed = onnx.ModelProto()
    probed.CopyFrom(graph)
    for name in dict.fromkeys(node.input[0] for node in products):
        probed.graph.output.add(name=name, type=onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "probed.onnx"
        onnx.save(probed, path, save_as_external_data=probed.ByteSize() >= TWO_GB)
        run = open_file(path, facts)
        moments: dict[str, Moments] = {}
        for inputs in calibration:
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
        Integer weights `[I, O]`, -127..127, and scales `[O]`; their product approximates the weights.
    """
    scale_O = np.abs(weights_IO).max(axis=0) / np.float32(LARGEST)
    scale_O[scale_O == 0] = 1
    upper_II = _corrections(moments_II)
    left_IO = weights_IO.astype(np.float64)  # the weights, corrected for the errors of earlier rows
    integer_IO = np.zeros(weights_IO.shape, np.int8)
    for start in range(0, len(left_IO), ROWS):
        end = min(start + ROWS, len(left_IO))
        errors = np.zeros((end - start, left_IO.shape[1]))
        for row in range(start, end):
            integer_IO[row] = np.rint(left_IO[row] / scale_O).clip(-LARGEST, LARGEST)
            errors[row - start] = (left_IO[row] - integer_IO[row] * scale_O) / upper_II[row, row]
            left_IO[row + 1 : end] -= np.outer(upper_II[row, row + 1 : end], errors[row - start])
        left_IO[end:] -= upper_II[start:end, end:].T @ errors
    return integer_IO, scale_O


def _corrections(moments_II: Moments) -> Moments:
    """Upper triangular U; U^T U is the inverse of the damped moments. Row i spreads its error over later rows."""
    mean = np.diag(moments_II).mean()
    damped_II = moments_II + (DAMPING * mean or 1.0) * np.eye(len(moments_II))
    upper_II = np.linalg.cholesky(np.linalg.inv(damped_II)).T
    return upper_II.astype(np.float64)
