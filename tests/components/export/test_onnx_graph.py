"""components/export/formats/onnx_graph.py: backbones of every family become a graph that answers as the network."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from components.common.exported.graph_inputs import INPUTS
from components.export.formats.free_sizes import free_dimensions
from components.export.formats.onnx_graph import metadata, write_onnx
from components.export.parity.parity_cases import as_read, logits, noise_cases
from model import MoBaNet, MoBaNetConfig
from tests.components.conftest import export_config, toy_facts
from tests.model.toys import distinguishing

SMALL = {"embed_dim": 64, "depth": 4, "num_heads": 4, "patch_size": 8, "img_size": 64}
CPU = torch.device("cpu")


def differences(network, facts, path):
    """Largest difference of the logits in every case."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = {}
    for name, inputs, _ in noise_cases(facts):
        (answered,) = session.run(["logits"], dict(zip(INPUTS, inputs, strict=True)))
        found[name] = float(np.abs(answered - logits(network, facts, inputs, CPU)).max())
    return found


@pytest.mark.system
@pytest.mark.parametrize(
    ("backbone", "more", "dynamic"),
    [
        ("vit_small_patch16_dinov3", {}, ["N", "H", "W"]),
        ("samvit_base_patch16", {"window_size": 3, "global_attn_indexes": (1, 3)}, ["N"]),
    ],
)
def test_dinov3_and_sam_answer_as_the_network_does_on_another_grid(backbone, more, dynamic, tmp_path) -> None:
    torch.manual_seed(0)
    config = MoBaNetConfig(backbone=backbone, backbone_args=SMALL | more, decoder_channels=16)
    network = MoBaNet(config).eval()
    with torch.no_grad():
        for parameter in network.encoder.backbone.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    facts = toy_facts(config)
    write_onnx(tmp_path / "model.onnx", network, facts, export_config())
    found = differences(network, facts, tmp_path / "model.onnx")
    assert len(found) > 10 and max(found.values()) <= 1e-4
    known = {p.key: json.loads(p.value) for p in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert (known["dynamic"], known["multiple_px"]) == (dynamic, 8 if len(dynamic) > 1 else facts.window_px)
    if len(dynamic) > 1:
        wide = replace(facts, window_px=48)
        assert max(differences(network, wide, tmp_path / "model.onnx").values()) <= 1e-4


def test_a_graph_decides_for_every_sample_which_sensors_it_has(tmp_path) -> None:
    network = distinguishing()
    heat = {"rgb+dsm": 0.5, "rgb": 2.0, "dsm": 4.0}
    facts = replace(toy_facts(network.config), temperature=heat)
    config = export_config(outputs=("logits", "classes", "confidence"))
    write_onnx(tmp_path / "model.onnx", network, facts, config)
    inputs = next(inputs for name, inputs, _ in noise_cases(facts) if name == "other sensors per sample")
    expected = logits(network, facts, inputs, CPU)
    image, dsm = as_read(inputs, facts)
    assert [bool(np.isnan(x).all()) for x in dsm] == [False, True, False]
    with_both = logits(network, facts, (inputs[0][1:2], inputs[1][2:3]), CPU)
    assert np.abs(with_both - expected[1:2]).max() > 0.05  # so the conditions differ
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    answered, classes, confidence = session.run(None, dict(zip(INPUTS, inputs, strict=True)))
    np.testing.assert_allclose(answered, expected, atol=1e-4)
    assert classes.dtype == np.uint8 and np.array_equal(classes, answered.argmax(1))
    shares = torch.softmax(torch.from_numpy(expected) / torch.tensor(list(heat.values()))[:, None, None, None], 1)
    np.testing.assert_allclose(confidence, shares.amax(1).numpy(), atol=1e-4)
    assert [output.shape for output in session.get_outputs()] == [["N", 6, "H", "W"], ["N", "H", "W"], ["N", "H", "W"]]


def test_the_metadata_say_which_sizes_are_free() -> None:
    facts = toy_facts(distinguishing().config)
    free, fixed = (
        {name: json.loads(value) for name, value in metadata(facts, export_config(), "onnx", "float32", px).items()}
        for px in (8, None)
    )
    assert (free["dynamic"], free["multiple_px"]) == (["N", "H", "W"], 8)
    assert (fixed["dynamic"], fixed["multiple_px"]) == (["N"], 32)
    assert free_dimensions(8).keys() == {0, 2, 3} and free_dimensions(None).keys() == {0}
