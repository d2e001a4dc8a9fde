"""A checkpoint of the released code passes through every later step, by the commands of docs/import.md."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from components.common.files import digest
from components.common.predictors.models import open_model
from model.inputs import IMAGENET_MEAN, IMAGENET_STD
from tests.repo.pages import commands

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "tests/fixtures/reference_native.safetensors"
PAGE = "docs/import.md"
SMALLER = {
    "formats: [onnx, onnx-float16, onnx-int8, qgis, pt2]": "formats: [onnx]",  # the others have tests of their own
    "crop_px: 128": "crop_px: 56",
    "stride_px: 128": "stride_px: 56",
    "stride_px: 96": "stride_px: 56",
    "samples: 1000": "samples: 100",
}


@pytest.mark.system
def test_a_released_checkpoint_is_evaluated_exported_registered_and_used(toy_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)
    params = (ROOT / "params.yaml").read_text()
    for old, new in SMALLER.items():
        assert old in params
        params = params.replace(old, new)
    Path("params.yaml").write_text(params)
    shutil.copytree(toy_store, "data/store")
    fixture = load_file(FIXTURE)
    weights = {name[8:]: tensor for name, tensor in fixture.items() if name.startswith("weights/")}
    torch.save({"state_dict": weights, "epoch": 49}, "reference.pth")

    said = {}
    for command in (command.text for command in commands() if command.page == PAGE):
        done = subprocess.run(["bash", "-euc", command], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        said[command] = done.stderr
    assert [command.split(" --")[0] for command in said] == [
        "mobanet model import reference.pth",
        "python -m components.evaluate",
        "python -m components.export",
        "python -m components.register",
    ]
    evaluation = json.loads(Path("released/reports/evaluation.json").read_text())
    assert evaluation["protocol"]["model"]["initial_weights"]["source"] == "released checkpoint reference.pth"
    assert any("training data are unknown" in warning for warning in evaluation["warnings"])
    record = json.loads(Path("released/package/export.json").read_text())
    assert record["source_sha256"] == digest(Path("released/model.safetensors"))
    registration = json.loads(Path("released/registration.json").read_text())
    assert (registration["version"], registration["created"]) == ("1", True)
    assert "commit" in {gate["name"] for gate in registration["gates"] if not gate["passed"]}

    rgb, dsm = fixture["input/rgb"], fixture["input/dsm"][:, None]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with open_model("released/package", torch.device("cpu")) as predictor:
        logits = predictor((rgb * std + mean) * 255, dsm).logits_BKHW
    torch.testing.assert_close(logits, fixture["output/logits"], atol=1e-4, rtol=0)
