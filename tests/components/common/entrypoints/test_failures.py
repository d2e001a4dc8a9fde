"""components/common/entrypoints/failures.py: provoked failures of the machine end in one sentence and an exit code."""

from __future__ import annotations

import errno
import os
import re
import resource
import socket
import subprocess
import sys
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from components.common.entrypoints import failures
from components.common.entrypoints.dvc import exit_code
from components.common.entrypoints.kubeflow import task
from components.common.errors import DataError
from tests.ranks import free_port

ROOT = Path(__file__).parents[4]


@pytest.fixture
def reported(tmp_path, monkeypatch, capfd):
    """Run a call as a step does; returns exit code, sentence and traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOBANET_LOGS", raising=False)

    def run(call):
        code = exit_code(call)
        (sentence,) = (line for line in capfd.readouterr().err.splitlines() if line.startswith("error: "))
        return code, sentence, (tmp_path / sentence.rpartition("the traceback is in ")[2]).read_text()

    return run


def raised_in(step: str, error: BaseException):
    """A function of this step that raises an error."""
    space = {"__name__": f"components.{step}.step", "error": error}
    exec("def call():\n    raise error", space)
    return space["call"]


def with_few_files():
    """Open files until the limit is reached."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        with ExitStack() as opened:
            while True:
                opened.enter_context(open(os.devnull))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def write_to_a_full_disk():
    with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")


def listen_at_a_port_in_use():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        dist.TCPStore("127.0.0.1", listener.getsockname()[1], is_master=True)


def connect_to_nobody():
    dist.TCPStore("127.0.0.1", free_port(), is_master=False, timeout=timedelta(milliseconds=200))


PROVOKED = {
    "memory of torch": (lambda: torch.empty(2**50), 2, "no free memory left"),
    "memory of numpy": (lambda: np.empty(2**50), 2, "no free memory left"),
    "open files": (with_few_files, 2, "`ulimit -n 65536`"),
    "disk": (write_to_a_full_disk, 2, "the disk is full (.*); free some space, then run the same command again"),
    "port": (listen_at_a_port_in_use, 2, "MASTER_PORT"),
    "rank that never started": (connect_to_nobody, 75, "run the same command again to resume"),
}


@pytest.mark.parametrize("name", PROVOKED)
def test_a_provoked_failure_is_one_sentence_and_its_traceback_is_in_the_file_that_it_names(name, reported):
    call, expected, words = PROVOKED[name]
    code, sentence, trace = reported(call)
    assert code == expected
    assert re.search(words, sentence)
    assert "Traceback (most recent call last)" in trace and "in exit_code" in trace


@pytest.mark.parametrize(
    ("step", "key"),
    [
        ("train", "runtime.speed.checkpoint_blocks: true, or lower train.batch_size or train.crop_px"),
        ("evaluate", "lower evaluate.batch_size or evaluate.window_px"),
        ("export", "stop other programs on this GPU"),
    ],
)
def test_the_sentence_names_the_parameters_of_the_step_that_failed(step, key, reported):
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ...")
    code, sentence, _ = reported(raised_in(step, error))
    assert code == 2
    assert sentence.startswith(f"error: {step}: the GPU has no free memory left (CUDA out of memory.")
    assert key in sentence


RAISED = {
    "cublas": (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "GPU_MEMORY"),
    "nccl without GPU memory": (
        dist.DistBackendError("NCCL error ... ncclUnhandledCudaError\nLast error:\nCuda failure 2 'out of memory'"),
        "GPU_MEMORY",
    ),
    "nccl time-out": (dist.DistBackendError("Watchdog caught collective operation timeout"), "LOST_RANK"),
    "nccl without shared memory": (
        dist.DistBackendError("ncclSystemError\nError while creating shared memory segment: No space left on device"),
        "SHARED_MEMORY",
    ),
    "bus error": (
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ..."),
        "SHARED_MEMORY",
    ),
    "torch's shared memory": (
        RuntimeError("unable to allocate shared memory(shm) for file </torch_7_1>: No space left on device (28)"),
        "SHARED_MEMORY",
    ),
    "file in shared memory": (OSError(errno.ENOSPC, "No space left on device", "/dev/shm/a"), "SHARED_MEMORY"),
    "worker that ended": (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "LOADER"),
    "memory that a worker lacks": (MemoryError("Caught MemoryError in DataLoader worker process 0."), "MEMORY"),
    "mmap": (OSError(errno.ENOMEM, "Cannot allocate memory"), "MEMORY"),
    "threads": (RuntimeError("can't start new thread"), "PROCESSES"),
    "gloo time-out": (RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1000ms"), "LOST_RANK"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded", "checkpoints/a"), "DISK"),
}


@pytest.mark.parametrize("name", RAISED)
def test_an_error_that_cannot_be_provoked_here_is_recognised_by_its_text(name):
    error, row = RAISED[name]
    assert failures.find(error) is getattr(failures, row)


def test_a_failure_is_found_behind_the_error_that_it_caused():
    error = RuntimeError("compilation failed")
    error.__cause__ = torch.OutOfMemoryError("CUDA out of memory")
    assert failures.find(error) is failures.GPU_MEMORY


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("gloo/"),
        KeyError("No space left on device"),
        RuntimeError("shapes differ: memory of 3 and 4"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/dev/shm/raw/2_10.tif"),
        DataError("2_10: quotes 'No space left on device'"),
        KeyboardInterrupt(),
    ],
)
def test_a_bug_and_an_error_with_a_sentence_of_its_own_are_no_failure_of_the_machine(error):
    assert failures.find(error) is None


def test_a_failure_in_a_task_leaves_its_traceback_in_the_workspace(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MOBANET_LOGS", "")
    with pytest.raises(SystemExit) as ended, task(str(tmp_path)):
        raise MemoryError
    assert ended.value.code == 2
    (log,) = (tmp_path / "logs").iterdir()
    assert f"the traceback is in {log}" in capsys.readouterr().err
    assert log.read_text().splitlines()[-1] == "MemoryError"


def test_a_traceback_that_cannot_be_written_does_not_hide_the_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MOBANET_LOGS", str(tmp_path / "file"))
    monkeypatch.setattr(failures.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    assert exit_code(raised_in("train", MemoryError())) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: train: this host or container has no free memory left (MemoryError); lower runtime.")
    assert line.endswith("; the traceback could not be written\n")


def test_torch_without_shared_memory_names_the_keys(tmp_path):
    """In a mount namespace of its own, whose /dev/shm has 1 MB."""
    script = (
        "import torch; from components.common.entrypoints.dvc import exit_code\n"
        "raise SystemExit(exit_code(lambda: torch.zeros(2**20).share_memory_()))"
    )
    command = f"mount -t tmpfs -o size=1m tmpfs /dev/shm && exec {sys.executable} -c '{script}'"
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command],
        env=os.environ | {"PYTHONPATH": str(ROOT), "MOBANET_LOGS": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "/dev/shm, is full" in done.stderr and "lower runtime.workers" in done.stderr
    assert len(done.stderr.splitlines()) == 1
