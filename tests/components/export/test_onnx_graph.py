"""components/export/formats/onnx_graph.py: backbones of every family become a graph that answers as the network."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from components.export.config import ExportConfig
from components.export.formats.onnx_graph import OUTPUT, write_onnx
from components.export.parity import as_stored, cases, check
from model import MoBaNet, MoBaNetConfig
from model.inputs import normalise
from tests.components.conftest import toy_facts
from tests.model.toys import distinguishing

SMALL = {"embed_dim": 64, "depth": 4, "num_heads": 4, "patch_size": 8, "img_size": 64}


@pytest.mark.parametrize(
    ("backbone", "more"),
    [
        ("vit_small_patch16_dinov3", {}),
        ("samvit_base_patch16", {"window_size": 3, "global_attn_indexes": (1, 3)}),
    ],
)
def test_dinov3_and_sam_answer_as_the_network_does_on_another_grid(backbone, more, tmp_path) -> None:
    torch.manual_seed(0)
    config = MoBaNetConfig(backbone=backbone, backbone_args=SMALL | more, decoder_channels=16)
    network = MoBaNet(config).eval()
    with torch.no_grad():
        for parameter in network.encoder.backbone.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    facts = toy_facts(config)
    write_onnx(tmp_path / "model.onnx", network, facts, ExportConfig(opset=20, tolerance=1e-4))
    assert len(check(network, facts, tmp_path / "model.onnx", 1e-4).cases) == 11


def test_a_graph_decides_for_every_sample_which_sensors_it_has(tmp_path) -> None:
    network = distinguishing()
    facts = toy_facts(network.config)
    write_onnx(tmp_path / "model.onnx", network, facts, ExportConfig(opset=20, tolerance=1e-4))
    found = {case.name: case for case in check(network, facts, tmp_path / "model.onnx", 1e-4).cases}
    assert {"DSM missing", "image missing", "half of the DSM missing", "other sensors per sample"} <= found.keys()
    inputs = dict(cases(facts))["other sensors per sample"]
    image, dsm = map(torch.from_numpy, inputs)
    rgb, heights = normalise(image, dsm, facts.image_mean, facts.image_std)
    with torch.no_grad():
        expected = torch.cat([network(rgb[:1], heights[:1]), network(rgb[1:2], None), network(None, heights[2:])])
        assert (expected[:1] - network(rgb[:1], None)).abs().max() > 0.05  # so the conditions differ
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (answered,) = session.run([OUTPUT], as_stored(facts, inputs))
    np.testing.assert_allclose(answered, expected.numpy(), atol=1e-4)
