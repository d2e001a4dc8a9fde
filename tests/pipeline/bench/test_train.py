from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from components.common.errors import ParamsError
from model import MoBaNet, MoBaNetConfig
from model.speed import autocast, prepare
from pipeline.bench import train as bench
from pipeline.bench.recipes import AUTOCAST, FLOAT32, OURS, SWITCHED_OFF, recipes, without_each_switch
from pipeline.bench.released_recipe import ReferenceNetwork
from pipeline.cli import app

runner = CliRunner()
TINY = MoBaNetConfig(backbone="test_vit", backbone_args={"patch_size": 8, "img_size": 64}, decoder_channels=16)
FIGURES = {"images_per_s", "spread", "step_ms", "utilisation", "peak_gib", "first_steps_s", "loss"}


def test_the_reference_is_the_same_network_in_two_passes():
    torch.manual_seed(0)
    ours, theirs = MoBaNet(TINY).eval(), ReferenceNetwork(TINY).eval()
    theirs.load_state_dict(ours.state_dict())
    prepare(theirs, "float32", SWITCHED_OFF)
    rgb, dsm = torch.randn(2, 3, 64, 64), torch.randn(2, 1, 64, 64)
    a, b = ours.forward_with_aux(rgb, dsm), theirs.forward_with_aux(rgb, dsm)
    for name in ("logits", "aux_rgb", "aux_dsm"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=1e-5, rtol=1e-5)
    with autocast("bf16", rgb.device):
        torch.testing.assert_close(theirs(rgb, dsm), b.logits, atol=0.01, rtol=0)


def test_every_switch_of_ours_is_taken_back_once():
    ours = recipes(torch.device("cuda"))[OURS]
    others = without_each_switch(ours)
    assert len({repr(other) for other in others.values()}) == len(others)
    assert others.pop(f"{OURS}, alone") == ours
    on = {name for name in type(ours.speed).__slots__ if getattr(ours.speed, name)}
    assert {f"{OURS}, without {name}" for name in on} <= others.keys()


def test_model_flops_are_three_passes_where_weights_train_and_two_where_they_are_frozen():
    network = MoBaNetConfig(backbone="vit_large_patch14_dinov2", aux_heads=False)
    gmacs = 222.4  # forward pass, from the specification
    gflops = bench.flops_per_image(network, 266) / 1e9
    assert 2 * 2 * gmacs < gflops < 3 * 2 * gmacs


def test_the_report_has_figures_of_every_recipe_and_our_ratio_to_each_reference(monkeypatch):
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(bench, "WARM_UP_STEPS", 1)
    monkeypatch.setattr(bench, "ceiling_flops", lambda device: 1e12)
    arguments = ["bench", "train", "--json", "--backbone", "test_vit", "--batch", "2", "--crop", "32", "--steps", "1"]
    report = json.loads(runner.invoke(app, arguments, catch_exceptions=False).stdout)
    assert {"device", "backbone", "batch", "input_px", "gflops_per_image", "ceiling_tflops"} <= report.keys()
    assert (report["backbone"], report["batch"], report["input_px"]) == ("test_vit", 2, 32)
    assert report["recipes"].keys() == {OURS, FLOAT32}
    assert report["ratio"].keys() == {FLOAT32}
    ours = report["recipes"][OURS]
    for name, figures in report["recipes"].items():
        assert figures.keys() == FIGURES
        assert figures["loss"] == pytest.approx(ours["loss"], rel=0.02)
        if name != OURS:
            assert report["ratio"][name] == pytest.approx(ours["images_per_s"] / figures["images_per_s"])
    table = runner.invoke(app, arguments[:2] + arguments[3:], catch_exceptions=False).stdout
    assert all(name in table for name in report["recipes"])


def test_on_a_gpu_the_reference_is_timed_in_both_precisions():
    chosen = recipes(torch.device("cuda"))
    assert list(chosen)[:3] == [OURS, FLOAT32, AUTOCAST]
    assert [chosen[name].precision for name in (OURS, FLOAT32, AUTOCAST)] == ["bf16", "float32", "bf16"]
    assert chosen[FLOAT32].two_passes and not chosen[OURS].two_passes


def test_an_unknown_backbone_is_an_error_a_user_can_read():
    with pytest.raises(ParamsError, match="vit_nonsense"):
        bench.bench_train("vit_nonsense", None, None, None, switches=False, alone=False)
