"""One toy model in every format; the graph is that of its package, because an export takes seconds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from components.common.inference.modelfile import load_model
from components.export.formats.known_formats import FORMATS
from components.export.formats.qgis import write_qgis
from components.export.formats.torch_program import write_pt2
from tests.components.conftest import export_config, made_once

TEMPERATURES = {"rgb+dsm": 1.5, "rgb": 2.0, "dsm": 0.7}
"""Of the graph for QGIS."""


@pytest.fixture(scope="session")
def toy_files(package, tmp_path_factory) -> Path:
    """A folder with the toy model as safetensors, ONNX, the graph for QGIS, and a program of torch."""
    network, facts = load_model(package / "model.safetensors")
    config = export_config(outputs=("classes", "logits", "confidence"))

    def make(folder: Path) -> None:
        for name in ("model.safetensors", "model.onnx"):
            shutil.copy(package / name, folder)
        write_qgis(folder / FORMATS["qgis"].file, network, replace(facts, temperature=TEMPERATURES), config)
        write_pt2(folder / FORMATS["pt2"].file, network, facts, config)

    return made_once(tmp_path_factory, "formats", make)
