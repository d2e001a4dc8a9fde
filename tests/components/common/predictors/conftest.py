"""One toy model in every format, without the export step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.common.inference.modelfile import save_model
from components.export.formats.known_formats import FORMATS
from components.export.formats.onnx_graph import write_onnx
from components.export.formats.qgis import write_qgis
from components.export.formats.torch_program import write_pt2
from model import MoBaNet, MoBaNetConfig
from tests.components.conftest import export_config, toy_facts


@pytest.fixture(scope="session")
def toy_files(tmp_path_factory) -> Path:
    """A folder with a toy model as safetensors, ONNX, the graph for QGIS, and a program of torch."""
    folder = tmp_path_factory.mktemp("formats")
    torch.manual_seed(0)
    args = {"patch_size": 8, "img_size": 32}
    network = MoBaNet(
        MoBaNetConfig(backbone="test_vit", backbone_args=args, decoder_channels=16, aux_heads=False)
    ).eval()
    facts, config = toy_facts(network.config), export_config(outputs=("classes", "logits", "confidence"))
    save_model(folder / "model.safetensors", network, facts)
    for name, write in {"onnx": write_onnx, "qgis": write_qgis, "pt2": write_pt2}.items():
        write(folder / FORMATS[name].file, network, facts, config)
    return folder
