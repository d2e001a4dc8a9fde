"""Validation, evaluation and the exported graph: the same network on the same tiles has the same figures."""

from __future__ import annotations

import math

import pytest
import torch

from components.common.data.store import Store
from components.common.inference.modelfile import load_model
from components.common.inference.precision import effective, training_precision
from components.evaluate.config import EvaluateConfig
from components.evaluate.step import windows_of
from components.export.formats.onnx_graph import input_shapes
from components.train import loop
from components.train.step import run
from model.speed import SpeedConfig
from pipeline.ablation.subset_figures import subset_figures
from tests.components.train.conftest import PLAIN

CPU = torch.device("cpu")
VALIDATION = {
    "every_steps": 2,
    "stride_px": 60,
    "batch_size": 4,
    "failure_probability": 0.1,
    "guard": 0.5,
    "pictures": 1,
}
EVALUATE = EvaluateConfig(window_px=None, stride_px=60, batch_size=4, failure_probability=0.1, panel_px=64)


@pytest.fixture
def train(tmp_path, toy_store, train_config, model_params, runtime):
    def call(runtime_changes=None, **changes):
        config = train_config(steps=2, crop_px=60, validation=VALIDATION, **changes)  # patches of 8: windows of 64
        models, checkpoints = tmp_path / "models", tmp_path / "checkpoints"
        result = run(config, model_params(), runtime(**runtime_changes or {}), toy_store, models, checkpoints)
        return result, *load_model(models / "best.safetensors")

    return call


@pytest.mark.parametrize(
    ("precision", "frozen_bf16", "recorded"),
    [("float32", True, "float32"), ("tf32", True, "float32"), ("bf16", True, "bf16"), ("bf16", False, "bf16")],
)
def test_a_model_file_scores_as_in_its_validation(train, toy_store, precision, frozen_bf16, recorded):
    speed = SpeedConfig(**PLAIN | {"frozen_bf16": frozen_bf16})
    result, network, facts = train({"speed": speed}, precision=precision)
    assert (facts.precision, facts.frozen_bf16) == (recorded, recorded == "bf16" and frozen_bf16)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    with training_precision(network, facts, CPU):
        windows = windows_of(EVALUATE, network, facts)
        found = subset_figures(network, Store(toy_store), "val", windows, CPU, EVALUATE.failure_probability)
    found["miou_fused"] = found["miou"]
    known = {name: round(value, 4) for name, value in result.validation.items() if math.isfinite(value)}
    assert {name: found[name] for name in known} == known
    assert all(torch.equal(before[name], weight) for name, weight in network.state_dict().items())


def test_the_graph_gets_the_windows_of_the_validation(train):
    _, network, facts = train()
    assert windows_of(EVALUATE, network, facts).window_px == facts.window_px == 64
    assert input_shapes(facts) == {"image": (3, 64, 64), "dsm": (1, 64, 64)}


def test_no_picture_is_drawn_for_a_training_that_is_not_tracked(train, monkeypatch):
    monkeypatch.setattr(loop, "pictures", lambda *args: pytest.fail("a picture was drawn"))
    train({"tracking": "none"})


def test_tf32_is_float32_on_a_cpu():
    assert effective("tf32", CPU) == "float32"
    assert [effective(p, torch.device("cuda")) for p in ("float32", "tf32", "bf16")] == ["float32", "tf32", "bf16"]
    assert effective("bf16", CPU) == "bf16"
