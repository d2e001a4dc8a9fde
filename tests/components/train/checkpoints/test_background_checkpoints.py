"""A training whose disk is slower than its steps."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time

import pytest
import torch

from components.common.errors import NonFiniteError, WeightsError
from components.common.inference.modelfile import load_model
from components.train import loop
from components.train.checkpoints import checkpoint
from components.train.step import run

SLOW_S = 0.2


@pytest.fixture
def train(tmp_path, toy_store, train_config, model_params, runtime):
    def call(name, changes=None, **train):
        folder = tmp_path / name
        config = train_config(**train)
        run(config, model_params(), runtime(**changes or {}), toy_store, folder / "models", folder / "checkpoints")

    return call


@pytest.fixture
def slow_disk(monkeypatch):
    """Every file takes a while; the list gets the name of each file once it is on disk."""
    write, written = checkpoint.write, []

    def slow(path, tensors, header):
        assert threading.current_thread() is not threading.main_thread()
        time.sleep(SLOW_S)
        write(path, tensors, header)
        written.append(path.stem)

    monkeypatch.setattr(checkpoint, "write", slow)
    return written


def at_step(monkeypatch, number, act):
    step = loop._step

    def acting(session, inputs, count):
        if count == number:
            act(session)
        return step(session, inputs, count)

    monkeypatch.setattr(loop, "_step", acting)


def weights(folder):
    network, _ = load_model(folder / "models/best.safetensors")
    return network.state_dict()


def test_training_continues_during_a_write_with_the_same_weights_and_ends_with_its_files_on_disk(
    train, tmp_path, monkeypatch
):
    train("fast")
    write, written, fourth = checkpoint.write, [], threading.Event()

    def hanging(path, tensors, header):
        if path.stem == "step-00000001":
            assert fourth.wait(60), "training waits for the file of step 1"
        write(path, tensors, header)
        written.append(path.stem)

    monkeypatch.setattr(checkpoint, "write", hanging)
    at_step(monkeypatch, 4, lambda session: fourth.set())
    train("slow", {"checkpoint_every_steps": 1})
    one, two = weights(tmp_path / "fast"), weights(tmp_path / "slow")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert written[:2] == ["step-00000000", "step-00000001"]
    assert "step-00000002" not in written, "replaced by that of step 3 or 4"
    assert written[-2:] == ["candidate-00000008", "step-00000008"]
    assert (tmp_path / "slow/checkpoints/finished").exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "checkpoint writer"]


def test_sigterm_ends_the_run_once_the_checkpoint_of_the_last_step_is_on_disk(train, tmp_path, slow_disk, monkeypatch):
    at_step(monkeypatch, 3, lambda session: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stopped:
        train("stopped", {"checkpoint_every_steps": 1})
    assert stopped.value.code == 75
    assert slow_disk[-1] == "step-00000003"
    assert (tmp_path / "stopped/checkpoints/step-00000003.safetensors").exists()


@pytest.mark.parametrize("first", [0, 1])
def test_sigterm_on_a_full_disk_is_an_error_with_the_step_on_disk_and_the_cause(train, tmp_path, monkeypatch, first):
    write = checkpoint.write

    def full(path, tensors, header):
        if int(path.stem[-8:]) >= first:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, tensors, header)

    monkeypatch.setattr(checkpoint, "write", full)
    at_step(monkeypatch, 3, lambda session: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(WeightsError) as stopped:
        train("full", {"checkpoint_every_steps": 1})
    found = "the newest one on disk is of step 0" if first else "there is no checkpoint on disk"
    assert stopped.value.exit_code == 2
    assert str(stopped.value) == (
        f"{tmp_path}/full/checkpoints: training stopped after step 3 on request, but the checkpoint of this step was "
        f"not written (No space left on device); {found}; make sure that the folder can be written, then run the same "
        "command again to continue after step 0"
    )


def test_an_error_in_the_training_leaves_the_latest_checkpoint_on_disk(train, tmp_path, slow_disk, monkeypatch):
    def fail(session):
        raise RuntimeError("a bug")

    at_step(monkeypatch, 3, fail)
    with pytest.raises(RuntimeError, match="a bug"):
        train("failed", {"checkpoint_every_steps": 1})
    assert slow_disk[-1] == "step-00000002"


def test_an_error_of_the_thread_ends_the_training(train, tmp_path, monkeypatch):
    write = checkpoint.write

    def broken(path, tensors, header):
        if path.stem == "step-00000002":
            raise NonFiniteError("step 2: a weight is not finite")
        write(path, tensors, header)

    monkeypatch.setattr(checkpoint, "write", broken)
    with pytest.raises(NonFiniteError, match="a weight is not finite"):
        train("broken")
    assert [path.name for path in (tmp_path / "broken/checkpoints").glob("step-*")] == ["step-00000000.safetensors"]
    assert not (tmp_path / "broken/models/best.safetensors").exists()


def test_loader_workers_that_start_during_a_write_change_nothing(train, tmp_path, slow_disk):
    train("none")
    train("two", {"workers": 2, "checkpoint_every_steps": 1})
    one, two = weights(tmp_path / "none"), weights(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_time_alone_decides_where_no_number_of_steps_is_given(train, slow_disk, monkeypatch):
    clock = iter(range(0, 10**6, 45))
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    saved, save = [], loop._save
    monkeypatch.setattr(loop, "_save", lambda session, progress: saved.append(progress.step) or save(session, progress))
    train("timed", {"checkpoint_every_steps": None, "checkpoint_every_minutes": 1.0})
    assert 4 in saved and 8 in saved, "a validation"
    assert {2, 3} & set(saved)
