"""Training killed by SIGKILL at random moments, also while a checkpoint is being written, and started again."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.toy_training import ToyTraining
from tests.ranks import free_port

pytestmark = pytest.mark.system

TRIALS = 30
IN_A_WRITE = [*((".step-", step) for step in range(8)), (".candidate-", 4), (".candidate-", 8)]
"""The first trials are killed between the last byte of a draft and its new name: kind of file, and its earliest step.
A checkpoint can be skipped for the next one, but the one of the last step is always written."""

LAG_S = 0.3
"""In every second of them the disk hangs for this time before the kill, so training is steps ahead of the write."""

DEADLINE_S = 120

JOIN_S = 20.0
"""A rank may be killed before the other has heard it, which then waits for this time."""


def die_in_write(kind: str, earliest: int, lag_s: float) -> None:
    """Make the thread that writes the checkpoints kill this process at the end of such a file."""
    fsync = os.fsync

    def fatal(file: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{file}")).name  # e.g. .step-00000003.safetensors.4711.part
        if name.startswith(kind) and int(name.removeprefix(kind).split(".")[0]) >= earliest:
            time.sleep(lag_s)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(file)

    os.fsync = fatal


def train(toy: ToyTraining, run: str, rank: int, size: int, port: int, dying: tuple | None) -> None:
    """One rank of one start, in a process that has torch imported already."""
    import torch

    from components.common.params import section
    from components.train import step
    from components.train.config import ModelParams, RuntimeConfig, TrainConfig
    from components.train.ranks import heartbeat

    torch.set_num_threads(1)
    heartbeat.JOIN_S = JOIN_S
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    if dying is not None and rank == 0:
        die_in_write(*dying)
    sections = (("train", TrainConfig), ("model", ModelParams), ("runtime", RuntimeConfig))
    folder = toy.folder / run
    step.run(*(section(toy.params, *named) for named in sections), toy.store, folder / "models", folder / "checkpoints")


class Starter:
    """Starts ranks from a server process that has imported everything: a start takes no seconds."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["components.train.step", "tests.e2e.toy_training", __name__])

    def start(self, toy: ToyTraining, run: str, size: int, dying: tuple | None = None) -> list:
        port = free_port()
        ranks = [self._context.Process(target=train, args=(toy, run, rank, size, port, dying)) for rank in range(size)]
        for process in ranks:
            process.start()
        return ranks


def ended(ranks: list) -> list[int]:
    """Exit codes of all ranks."""
    for process in ranks:
        process.join(DEADLINE_S)
    return [process.exitcode for process in ranks]


@pytest.fixture(scope="module")
def starter() -> Starter:
    return Starter()


@pytest.mark.parametrize("size", [1, 2])
def test_thirty_killed_runs_end_with_the_weights_of_the_one_that_was_left_alone(tmp_path: Path, starter, size) -> None:
    toy = ToyTraining(tmp_path, {"train": {"steps": 8, "validation": {"every_steps": 4}}})
    chance = random.Random(size)
    assert ended(starter.start(toy, "warm", size)) == [0] * size
    begun = time.monotonic()
    assert ended(starter.start(toy, "whole", size)) == [0] * size
    took_s = time.monotonic() - begun
    killed = 0
    for trial in range(TRIALS):
        run = f"killed-{trial}"
        in_a_write = trial < len(IN_A_WRITE)
        if in_a_write:
            ranks = starter.start(toy, run, size, dying=(*IN_A_WRITE[trial], LAG_S * (trial % 2)))
        else:
            ranks = starter.start(toy, run, size)
            time.sleep(chance.uniform(0, took_s))
            ranks[chance.randrange(size)].kill()
        codes = ended(ranks)
        killed += -signal.SIGKILL in codes
        if -signal.SIGKILL not in codes:
            took_s *= 0.8  # it ended first, because the machine is faster now than when the run was timed
        assert set(codes) <= {-signal.SIGKILL, 75, 0}, run
        if in_a_write:
            assert list((tmp_path / run).rglob(".*.part")), f"{run} was not killed in a write"
        assert ended(starter.start(toy, run, size)) == [0] * size, run
        toy.assert_same(run, "whole")
    assert killed > TRIALS * 2 / 3
