"""`mobanet bench evaluate`: both ways count the same pixels."""

from __future__ import annotations

import json

import pytest
import torch
from ruamel.yaml import YAML
from typer.testing import CliRunner

from components.common.inference import precision
from components.common.inference.precision import training_precision
from pipeline.cli import app
from tests.repo.test_house import ROOT


@pytest.fixture
def params(tmp_path):
    """params.yaml with a network small enough for a test."""
    yaml = YAML()
    content = yaml.load((ROOT / "params.yaml").read_text())
    content["model"] |= {"backbone": "test_vit", "backbone_args": {"patch_size": 8, "img_size": 64}}
    content["model"] |= {"decoder_channels": 16}
    content["train"] |= {"crop_px": 64}
    content["train"]["validation"] |= {"stride_px": 64}
    content["evaluate"] |= {"stride_px": 48}
    content["evaluate"]["intervals"] |= {"block_px": 32}
    path = tmp_path / "params.yaml"
    yaml.dump(content, path)
    return path


def test_mobanet_bench_evaluate_times_two_ways_that_agree(params, toy_store, tmp_path, monkeypatch):
    networks = []

    def noted(network, facts, device):
        networks.append(network)
        return training_precision(network, facts, device)

    monkeypatch.setattr(precision, "training_precision", noted)
    options = ["--store", str(toy_store), "--params", str(params), "--model", str(tmp_path / "none"), "--rounds", "1"]
    result = CliRunner().invoke(app, ["bench", "evaluate", *options, "--json"])
    assert result.exit_code == 0, result.output
    assert len(networks) == 2 and networks[0] is not networks[1]  # both ways compute as the training did
    report = json.loads(result.stdout)
    assert report["same_px"] > 0.9999 and not report["trained"]
    assert report["ratio"] == pytest.approx(report["seconds"] / report["earlier_s"])
    assert (report["window_px"], report["stride_px"], report["threads"]) == (64, 48, torch.get_num_threads())
