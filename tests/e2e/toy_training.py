"""A training of some seconds as a separate process, with the step's command line or under `torchrun`."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from tests.conftest import write_toy_store
from tests.e2e.conftest import ROOT, merged

SETTINGS = {
    "model": {
        "backbone": "test_vit",
        "backbone_args": {"patch_size": 8, "img_size": 64},
        "decoder_channels": 16,
    },
    "train": {
        "steps": 12,
        "batch_size": 4,
        "crop_px": 64,
        "warmup_steps": 2,
        "validation": {"every_steps": 6, "stride_px": 64, "batch_size": 4, "pictures": 0},
    },
    "runtime": {"device": "cpu", "checkpoint_every_steps": 1, "log_every_steps": 1, "tracking": "none"},
}


class ToyTraining:
    """Parameters and a store; every run has a folder of its own."""

    def __init__(self, folder: Path, changes: dict | None = None) -> None:
        self.folder, self.store, self.params = folder, folder / "store", folder / "params.yaml"
        shipped = yaml.safe_load((ROOT / "params.yaml").read_text())
        write_toy_store(self.store)
        self.params.write_text(yaml.safe_dump(merged(merged(shipped, SETTINGS), changes or {})))

    def arguments(self, run: str) -> list[str]:
        """Command-line options of the step; each run writes to its own folder."""
        paths = {"params": self.params, "store": self.store} | {
            name: self.folder / run / name for name in ("models", "checkpoints")
        }
        return ["-m", "components.train", *(word for name, path in paths.items() for word in (f"--{name}", str(path)))]

    def start(self, run: str, launcher: list[str] | None = None, **environment: str) -> subprocess.Popen:
        """The training as a process; `launcher` is what stands for `python`."""
        (self.folder / run).mkdir(exist_ok=True)
        log = (self.folder / run / "log.txt").open("a")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | environment
        command = [*(launcher or [sys.executable]), *self.arguments(run)]
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment, start_new_session=True)

    def run(self, run: str, launcher: list[str] | None = None, **environment: str) -> int:
        """The exit code of the training."""
        return self.start(run, launcher, **environment).wait(timeout=180)

    def log(self, run: str) -> str:
        """What a run has printed so far, over all its starts."""
        return (self.folder / run / "log.txt").read_text()

    def wait_for_step(self, run: str, step: int, deadline_s: float = 90) -> None:
        """Until the run has a checkpoint of this step or a later one."""
        until = time.monotonic() + deadline_s
        while not any(self.step(path) >= step for path in (self.folder / run).glob("checkpoints/step-*.safetensors")):
            assert time.monotonic() < until, f"no checkpoint of step {step} in time:\n{self.log(run)}"
            time.sleep(0.01)

    @staticmethod
    def step(path: Path) -> int:
        """Step of a checkpoint."""
        return int(path.stem.removeprefix("step-"))

    def result(self, run: str) -> dict[str, torch.Tensor]:
        """The selected weights."""
        return load_file(self.folder / run / "models/best.safetensors")

    def history(self, run: str) -> dict[str, list[dict[str, str]]]:
        """The rows of both tables."""
        tables = ("training.csv", "validation.csv")
        return {name: list(csv.DictReader((self.folder / run / "models" / name).open())) for name in tables}

    def assert_same(self, run: str, other: str) -> None:
        """Both runs ended with the same weights, to the bit, and the same history."""
        one, two = self.result(run), self.result(other)
        assert one.keys() == two.keys()
        assert not [name for name in one if not torch.equal(one[name], two[name])]
        assert self.history(run) == self.history(other)


def torchrun(ranks: int, *options: str) -> list[str]:
    """The launcher for so many ranks on this machine."""
    return [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", *options]
