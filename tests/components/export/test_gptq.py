"""Rounding of weights, against the definition: after each row, the other rows minimise the error of the outputs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from components.export.formats import gptq
from components.export.formats.gptq import input_moments, rounded
from tests.components.predict.known import FACTS

RNG = np.random.default_rng(0)


def weights(rows, outputs=7):
    return RNG.standard_normal((rows, outputs)).astype(np.float32)


def moments(rows, samples=400):
    """Of inputs that resemble each other: two patterns, and a little noise."""
    patterns = RNG.standard_normal((samples, 2)) @ RNG.standard_normal((2, rows))
    inputs = patterns + 0.2 * RNG.standard_normal((samples, rows))
    return inputs.T @ inputs


def nearest(values):
    scale = np.abs(values).max(0) / 127
    return np.rint(values / scale), scale


def error(values, whole, scale, moments):
    """Mean square error of the outputs."""
    off = values - whole * scale
    return np.trace(off.T @ moments @ off)


def by_definition(values, moments):
    """Round a row, then solve for all rows after it; no factorisation, no blocks."""
    left, (_, scale) = values.astype(np.float64).copy(), nearest(values)
    damped = moments + gptq.DAMPING * np.diag(moments).mean() * np.eye(len(moments))
    whole = np.zeros(left.shape)
    for row in range(len(left)):
        whole[row] = np.rint(left[row] / scale).clip(-127, 127)
        rest = slice(row + 1, None)
        left[rest] += np.linalg.solve(damped[rest, rest], np.outer(damped[rest, row], left[row] - whole[row] * scale))
    return whole


@pytest.mark.parametrize("rows", [1, 5, 60])
def test_every_row_compensates_for_the_errors_of_the_rows_before_it(rows) -> None:
    values, seen = weights(rows), moments(rows)
    whole, scale = rounded(values, seen)
    assert np.array_equal(whole, by_definition(values, seen))
    assert np.allclose(scale, nearest(values)[1]) and whole.dtype == np.int8 and scale.dtype == np.float32


def test_the_size_of_a_block_of_rows_changes_nothing(monkeypatch) -> None:
    values, seen = weights(60), moments(60)
    expected = rounded(values, seen)[0]
    monkeypatch.setattr(gptq, "ROWS", 16)
    assert np.array_equal(rounded(values, seen)[0], expected)


def test_outputs_are_far_closer_than_those_of_the_nearest_numbers() -> None:
    values, seen = weights(200), moments(200)
    assert error(values, *rounded(values, seen), seen) < 0.2 * error(values, *nearest(values), seen)


def test_unrelated_inputs_give_the_nearest_numbers() -> None:
    values = weights(150)
    assert np.array_equal(rounded(values, np.diag(RNG.uniform(1, 9, 150)))[0], nearest(values)[0])


def test_weights_of_0_and_inputs_of_0_stay_finite() -> None:
    values = weights(5)
    values[:, 2] = 0
    whole, scale = rounded(values, np.zeros((5, 5)))
    assert (whole[:, 2] == 0).all() and np.isfinite(scale).all()
    assert np.abs(whole * scale - values).max() <= scale.max() / 2 * 1.001


def test_moments_are_those_of_all_products_with_a_weight() -> None:
    """Two products share the weight `shared`; `other` has inputs of its own."""
    nodes = [
        helper.make_node("MatMul", ["image", "shared"], ["a"]),
        helper.make_node("MatMul", ["dsm", "shared"], ["b"]),
        helper.make_node("MatMul", ["a", "other"], ["c"]),
        helper.make_node("MatMul", ["a", "not asked for"], ["d"]),
    ]
    matrices = {"shared": weights(4, 3), "other": weights(3, 2), "not asked for": weights(3, 2)}
    graph = helper.make_model(
        helper.make_graph(
            nodes,
            "toy",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "C", "H", 4]) for name in ("image", "dsm")],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "bcd"],
            [numpy_helper.from_array(values, name) for name, values in matrices.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    before = graph.SerializeToString()
    image, dsm = (
        RNG.standard_normal((1, 3, 5, 4)).astype(np.float32),
        RNG.standard_normal((1, 1, 5, 4)).astype(np.float32),
    )
    found = input_moments(graph, ["shared", "other"], FACTS, [(image, dsm), (2 * image, dsm)])
    rows = np.concatenate([image.reshape(-1, 4), 2 * image.reshape(-1, 4), dsm.reshape(-1, 4), dsm.reshape(-1, 4)])
    inner = np.concatenate([image.reshape(-1, 4), 2 * image.reshape(-1, 4)]) @ matrices["shared"]
    assert set(found) == {"shared", "other"} and graph.SerializeToString() == before
    assert np.allclose(found["shared"], rows.T @ rows, rtol=1e-5)
    assert np.allclose(found["other"], inner.T @ inner, rtol=1e-5)
