"""components/export/onnx_graph.py: backbones of every family become a graph that answers as the network does."""

from __future__ import annotations

import pytest
import torch

from components.export.onnx_graph import write_onnx
from components.export.parity import check
from model import MoBaNet, MoBaNetConfig
from tests.components.conftest import toy_facts

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
    write_onnx(tmp_path / "model.onnx", network, facts, 20)
    assert len(check(network, facts, tmp_path / "model.onnx", 1e-4).cases) == 8
