"""components/common/launch.py: one GPU and none in this process, several under torchrun."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from components.acquire.step import SampleConfig
from components.common import launch as module
from components.common.launch import launch
from components.common.params import section


def test_parameters_survive_the_way_through_a_file(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(module.importlib, "import_module", lambda name: seen.append(name) or Door(seen))
    launch("acquire", {"sample": json.dumps({"seed": 3, "side_px": 256})}, tmp_path, {"raw": tmp_path / "raw"}, 1)
    assert seen == ["components.acquire.__main__", tmp_path / "raw", SampleConfig(seed=3, side_px=256)]


class Door:
    def __init__(self, seen):
        self.seen = seen

    def main(self, params, raw):
        self.seen += [raw, section(params, "sample", SampleConfig)]


def test_a_small_number_is_still_a_number_for_yaml(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess((), 0))
    launch("train", {"train": json.dumps({"min_learning_rate": 1e-06})}, tmp_path, {}, 2)
    assert "1.0e-06" in (tmp_path / "train.yaml").read_text()


@pytest.mark.parametrize("code", [0, 1])
def test_several_gpus_are_left_to_torchrun_and_its_code_is_kept(tmp_path, monkeypatch, code):
    calls = []

    def call(command, check):
        calls.append(command[1:])
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(subprocess, "run", call)
    try:
        launch("train", {"train": "{}"}, tmp_path, {"store": Path("s")}, 4)
    except SystemExit as stop:
        assert stop.code == code == 1
    (command,) = calls
    assert command == [
        *("-m", "torch.distributed.run", "--nproc-per-node=gpu", "-m", "components.train"),
        *("--params", str(tmp_path / "train.yaml"), "--store", "s"),
    ]
