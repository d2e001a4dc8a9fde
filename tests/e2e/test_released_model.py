"""A checkpoint of the released code passes through every later step: evaluate, export, register and predict."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest
import torch
from safetensors.torch import load_file

from components.common.files import digest
from components.common.predictors.models import open_model
from components.evaluate.__main__ import main as evaluate
from components.export.__main__ import main as export
from components.register.__main__ import main as register
from model.inputs import IMAGENET_MEAN, IMAGENET_STD
from pipeline.commands.model_import import import_

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "tests/fixtures/reference_native.safetensors"
SMALLER = {
    "formats: [onnx, onnx-float16, onnx-int8, qgis, pt2]": "formats: [onnx]",  # the others have tests of their own
    "stride_px: 96": "stride_px: 56",
    "samples: 1000": "samples: 100",
    "require_clean_commit: true": "require_clean_commit: false",
}


@pytest.mark.system
def test_a_released_checkpoint_is_evaluated_exported_registered_and_used(toy_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)
    text = (ROOT / "params.yaml").read_text()
    for old, new in SMALLER.items():
        text = text.replace(old, new)
    params = tmp_path / "params.yaml"
    params.write_text(text)
    fixture = load_file(FIXTURE)
    weights = {name[8:]: tensor for name, tensor in fixture.items() if name.startswith("weights/")}
    torch.save({"state_dict": weights, "epoch": 49}, "reference.pth")
    model = Path("released/model.safetensors")
    options = {"params": params, "dataset": None, "store": toy_store, "licence": None, "force": False}
    import_(Path("reference.pth"), model, heads=4, taps="1,3,5,7", window=56, **options)

    evaluate(params, toy_store, model, Path("reports"))
    evaluation = json.loads(Path("reports/evaluation.json").read_text())
    assert evaluation["protocol"]["model"]["initial_weights"]["source"] == "released checkpoint reference.pth"
    assert any("training data are unknown" in warning for warning in evaluation["warnings"])
    export(params, model, Path("reports/evaluation.json"), toy_store, Path("package"))
    record = json.loads(Path("package/export.json").read_text())
    assert record["source_sha256"] == digest(model)
    register(params, Path("package"), model.with_name("run.json"), Path("reports/registration.json"))
    registration = json.loads(Path("reports/registration.json").read_text())
    assert (registration["version"], registration["created"]) == ("1", True)
    tags = mlflow.MlflowClient().get_model_version(registration["model_name"], "1").tags
    assert tags["sha256"] == record["sha256"]["model.safetensors"]
    rgb, dsm = fixture["input/rgb"], fixture["input/dsm"][:, None]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with open_model(f"models:/{registration['model_name']}/1", torch.device("cpu")) as predictor:
        logits = predictor((rgb * std + mean) * 255, dsm).logits_BKHW
    torch.testing.assert_close(logits, fixture["output/logits"], atol=1e-4, rtol=0)
