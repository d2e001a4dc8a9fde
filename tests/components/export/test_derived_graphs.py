"""components/export/formats: smaller graphs are derived from the float32 one, and sizes stay free."""

from __future__ import annotations

import json
import logging

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from components.common.exported.graph_file import check_graph
from components.export.formats.float16 import write_float16
from components.export.formats.free_sizes import multiple_px, pool_by_products, resample_by_products, traceable
from components.export.formats.int8 import write_int8_dynamic, write_int8_weights
from components.export.formats.onnx_graph import ir_version
from components.export.formats.servable import Servable
from model.plain_vit import resample_positions
from tests.components.conftest import export_config
from tests.model.toys import toy

WRITERS = {"float16": write_float16, "dynamic": write_int8_dynamic, "weights": write_int8_weights}


@pytest.fixture(scope="module")
def derived(package, trained, tmp_path_factory):
    """Files that are derived from `model.onnx` of the package, each written twice."""
    folder = tmp_path_factory.mktemp("derived")
    (folder / "model.onnx").write_bytes((package / "model.onnx").read_bytes())
    for variant, write in WRITERS.items():
        for name in (variant, f"{variant}_again"):
            write(folder / f"{name}.onnx", trained.network, trained.facts, export_config())
    return folder


def logits_of(path, side=32):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 3, side, side)).astype(np.float32)
    dsm = rng.uniform(-5, 20, (3, 1, side, side)).astype(np.float32)
    dsm[1], image[2] = np.nan, np.nan
    dsm[0, 0, 0, :2] = -9999, 3.4e38
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": image, "dsm": dsm})[0], image, dsm


@pytest.mark.parametrize(("variant", "limit"), [("float16", 0.01), ("dynamic", 0.2), ("weights", 0.2)])
def test_a_smaller_graph_answers_nearly_as_the_float32_one(derived, variant, limit) -> None:
    exact, path = logits_of(derived / "model.onnx")[0], derived / f"{variant}.onnx"
    found = logits_of(path)[0]
    assert found.dtype == np.float32 and 0 < np.abs(found - exact).max() <= limit * np.abs(exact).max()
    assert path.stat().st_size < 0.9 * (derived / "model.onnx").stat().st_size
    assert path.read_bytes() == (derived / f"{variant}_again.onnx").read_bytes()


@pytest.mark.parametrize("variant", WRITERS)
def test_a_smaller_graph_says_what_it_is_and_keeps_inputs_and_versions(derived, variant) -> None:
    exact, graph = onnx.load(derived / "model.onnx"), onnx.load(derived / f"{variant}.onnx")
    before, after = ({p.key: json.loads(p.value) for p in model.metadata_props} for model in (exact, graph))
    half = variant == "float16"
    own = {"format": "onnx-float16", "precision_of_file": "float16"}
    assert after == before | (own if half else {"format": "onnx-int8", "precision_of_file": "int8"})
    assert list(graph.graph.input) == list(exact.graph.input) and list(graph.graph.output) == list(exact.graph.output)
    assert graph.ir_version == exact.ir_version == ir_version(20) == 9
    assert {entry.domain for entry in graph.opset_import} <= {"", "ai.onnx"} and graph.opset_import[0].version == 20


def test_the_quantiser_does_not_log_every_tensor(package, trained, tmp_path, caplog) -> None:
    (tmp_path / "model.onnx").write_bytes((package / "model.onnx").read_bytes())
    before = list(logging.getLogger().filters)
    with caplog.at_level(logging.INFO):
        write_int8_dynamic(tmp_path / "int8.onnx", trained.network, trained.facts, export_config())
    assert not [record for record in caplog.records if "not specified" in record.getMessage()]
    assert logging.getLogger().filters == before


def test_heights_in_metres_stay_float32_in_float16(derived) -> None:
    graph = onnx.load(derived / "float16.onnx").graph
    used = [node for node in graph.node if "dsm" in node.input or "image" in node.input]
    assert used and not [node for node in used if node.op_type == "Cast"]
    halves = [x for x in graph.initializer if x.data_type == onnx.TensorProto.FLOAT16]
    assert sum(np.prod(x.dims) for x in halves) > 0.9 * sum(np.prod(x.dims) for x in graph.initializer)


@pytest.mark.parametrize("variant", ["model", *WRITERS])
def test_a_graph_refuses_sizes_that_are_no_multiples(derived, variant) -> None:
    path = derived / f"{variant}.onnx"
    check_graph(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    shapes = [((40, 32), None), ((36, 32), "image"), ((32, 33), "image"), ((8, 32), "image"), ((32, 35), "dsm")]
    for (height, width), wrong in shapes:
        sides = {"image": (32, 32) if wrong == "dsm" else (height, width), "dsm": (height, width)}
        inputs = {name: np.full((2, 3 if name == "image" else 1, *sides[name]), 9, np.float32) for name in sides}
        if wrong is None:
            assert session.run(["logits"], inputs)[0].shape[-2:] == (height, width)
        else:
            with pytest.raises(Fail, match=f"{wrong}_sides_must_be_multiples_of_8_px_from_16_px_on"):
                session.run(["logits"], inputs)


@pytest.mark.parametrize("side", [16, 48])
def test_the_graph_takes_images_of_other_sizes(package, trained, side) -> None:
    found, image, dsm = logits_of(package / "model.onnx", side)
    with torch.inference_mode():
        module = Servable(trained.network, trained.facts).eval()
        parts = [
            module(image[None], dsm[None])[0] for image, dsm in zip(*map(torch.from_numpy, (image, dsm)), strict=True)
        ]
    np.testing.assert_allclose(found, torch.cat(parts).numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "multiple"),
    [("vit_tiny_patch16_224", 8), ("vit_small_patch16_dinov3", 8), ("samvit_base_patch16", None)],
)
def test_sizes_are_free_where_the_backbone_allows_it(backbone, multiple) -> None:
    network = toy(backbone)
    assert multiple_px(network, 64) == multiple and multiple_px(network, 8) is None
    inputs = torch.randn(1, 3, 40, 64), torch.randn(1, 1, 40, 64)
    with torch.inference_mode():
        expected = network(*inputs)
        with traceable(network):
            found = network(*inputs)
        again = network(*inputs)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert torch.equal(again, expected)  # what was replaced is back


@pytest.mark.parametrize(
    ("trained", "wanted"), [((8, 8), (8, 8)), ((8, 8), (8, 4)), ((14, 14), (16, 31)), ((4, 6), (3, 6))]
)
def test_positions_are_resampled_as_by_interpolation(trained, wanted) -> None:
    positions = torch.randn(1, trained[0] * trained[1], 5)
    expected = resample_positions(positions, trained, wanted)
    torch.testing.assert_close(resample_by_products(positions, trained, wanted), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(4, 4), (7, 11), (2, 16)])
def test_maps_are_pooled_as_by_torch(side, size) -> None:
    maps = torch.randn(2, 3, *size)
    torch.testing.assert_close(pool_by_products(maps, side), F.adaptive_avg_pool2d(maps, side), atol=1e-6, rtol=0)
