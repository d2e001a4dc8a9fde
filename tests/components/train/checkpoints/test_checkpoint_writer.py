from __future__ import annotations

import errno
import os
import resource
import threading
import time

import pytest
import torch

from components.common.data.store import Store
from components.common.errors import NonFiniteError
from components.train.checkpoints import checkpoint
from components.train.checkpoints.checkpoint import Checkpoints, Progress
from components.train.checkpoints.checkpoint_format import write
from components.train.checkpoints.checkpoint_writer import Draft, Snapshot, Writer
from components.train.crops import Crops, batches

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEADLINE_S = 20


class Disk:
    """Stands for a disk: notes what is written, and can be stopped, be full or break."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.error: BaseException | None = None
        self.going, self.begun = threading.Event(), threading.Event()
        self.going.set()

    def write(self, draft: Draft) -> None:
        self.begun.set()
        assert self.going.wait(DEADLINE_S)
        if self.error is not None:
            raise self.error
        self.written.append(draft.name)


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def writer(disk):
    writer = Writer(disk.write)
    yield writer
    disk.going.set()
    writer.close()


def save(writer, step):
    snapshot = writer.snapshot().take({"weight": torch.full((2,), float(step))})
    writer.submit(Draft(f"step-{step}", step, snapshot, {}))
    return snapshot


def save_candidate(writer, step):
    writer.submit_candidate(Draft(f"candidate-{step}", step, Snapshot().take({}), {}))


def stop(disk, writer, step):
    """Stop the disk in the middle of writing the checkpoint of a step."""
    disk.going.clear()
    disk.begun.clear()
    snapshot = save(writer, step)
    assert disk.begun.wait(DEADLINE_S)
    return snapshot


def test_training_does_not_wait_for_a_slow_disk_and_the_newest_checkpoint_wins(disk, writer):
    stop(disk, writer, 1)
    for step in (2, 3, 4):
        save(writer, step)
    assert disk.written == []
    disk.going.set()
    writer.wait()
    assert disk.written == ["step-1", "step-4"]


def test_there_are_never_more_than_two_copies_however_slow_the_disk(disk, writer):
    snapshots = [stop(disk, writer, 1), *(save(writer, step) for step in range(2, 6))]
    disk.going.set()
    writer.wait()
    snapshots += [save(writer, step) for step in range(6, 10)]
    assert len({id(snapshot) for snapshot in snapshots}) <= 2


def test_a_copy_that_is_being_written_is_not_overwritten(disk, writer):
    being_written = stop(disk, writer, 1)
    save(writer, 2)
    save(writer, 3)
    assert being_written.tensors()["weight"].tolist() == [1.0, 1.0]


def test_a_snapshot_reuses_its_memory_and_is_contiguous():
    weight = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    snapshot = Snapshot().take({"a": weight, "b": torch.tensor(1)})
    before = {name: tensor.data_ptr() for name, tensor in snapshot.tensors().items()}
    snapshot.take({"a": weight + 1, "b": torch.tensor(2)})
    assert {name: tensor.data_ptr() for name, tensor in snapshot.tensors().items()} == before
    assert torch.equal(snapshot.tensors()["a"], weight + 1) and snapshot.tensors()["a"].is_contiguous()
    snapshot.take({"b": torch.tensor(3)})
    assert {name: int(tensor) for name, tensor in snapshot.tensors().items()} == {"b": 3}


@gpu
def test_a_copy_from_a_gpu_is_pinned_and_does_not_see_the_next_step():
    weight = torch.zeros(2**26, device="cuda")
    snapshot = Snapshot().take({"weight": weight})
    weight.add_(1)
    copied = snapshot.tensors()["weight"]
    assert copied.is_pinned() and not copied.any()


def test_a_candidate_is_on_disk_before_the_checkpoint_that_refers_to_it(disk, writer):
    stop(disk, writer, 4)
    later = threading.Thread(target=lambda: (save_candidate(writer, 4), save(writer, 4)))
    later.start()
    disk.going.set()
    later.join(DEADLINE_S)
    writer.wait()
    assert disk.written == ["step-4", "candidate-4", "step-4"]
    assert not writer.candidates


def test_a_full_disk_costs_checkpoints_and_candidates_wait_in_memory(disk, writer, caplog):
    disk.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    save_candidate(writer, 4)
    save(writer, 4)
    writer.wait()
    assert "weights of step 4 not written (No space left on device); they stay in memory" in caplog.text
    assert "checkpoint of step 4 not written (No space left on device); earlier files are kept" in caplog.text
    assert list(writer.candidates) == ["candidate-4"] and writer.problem == "No space left on device"
    disk.error = None
    save(writer, 5)
    writer.wait()
    assert writer.problem is None
    assert disk.written == ["candidate-4", "step-5"]
    assert not writer.candidates


@pytest.mark.parametrize("call", ["wait", "snapshot", "candidate"])
def test_any_other_error_of_the_thread_is_raised_in_the_training(disk, writer, call):
    disk.error = NonFiniteError("step 1: weight a is not finite")
    save(writer, 1)
    with pytest.raises(NonFiniteError, match="weight a is not finite"):
        writer.wait()
    calls = {"wait": writer.wait, "snapshot": writer.snapshot, "candidate": lambda: save_candidate(writer, 2)}
    with pytest.raises(NonFiniteError, match="weight a is not finite"):
        calls[call]()


def test_closing_completes_the_writes_and_logs_an_error_that_nobody_has_seen(disk, caplog):
    writer = Writer(disk.write)
    stop(disk, writer, 1)
    save(writer, 2)
    threading.Timer(0.1, disk.going.set).start()
    writer.close()
    assert disk.written == ["step-1", "step-2"]
    broken = Writer(disk.write)
    disk.error = RuntimeError("the disk is gone")
    save(broken, 3)
    broken.close()
    assert "a checkpoint was not written: the disk is gone" in caplog.text


def test_a_file_that_the_system_refuses_is_an_error_with_its_cause_and_leaves_nothing(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            write(tmp_path / "step-1.safetensors", {"weight": torch.zeros(1000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_warning_and_the_candidate_can_still_be_loaded(
    tmp_path, toy_network, train_config, monkeypatch, caplog
):
    kept, network = Checkpoints(tmp_path, keep=2, identity={}), toy_network()
    optimizer = torch.optim.AdamW(network.parameters())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write", full)
        kept.save_candidate(network, 4)
        kept.save(network, optimizer, Progress(4), candidates={4})
        kept.wait()
    assert "checkpoint of step 4 not written (No space left on device); earlier files are kept" in caplog.text
    other = toy_network()
    kept.load_candidate(other, 4)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
    kept.save(network, optimizer, Progress(5), candidates={4})  # there is room again: the candidate is written too
    kept.close()
    assert (tmp_path / "candidate-00000004.safetensors").exists()
    assert kept.latest().progress.step == 5


def test_workers_that_are_forked_during_a_write_deliver_their_crops(disk, writer, toy_store, train_config):
    config, store = train_config(steps=3), Store(toy_store)
    crops = Crops(store, store.manifest.subset("train"), config)
    expected = list(batches(crops, config, 0, 1))
    stop(disk, writer, 1)
    save(writer, 2)
    begun = time.monotonic()
    loaded = list(batches(crops, config, 2, 1))
    assert time.monotonic() - begun < DEADLINE_S
    assert all(torch.equal(a.label_BHW, b.label_BHW) for a, b in zip(loaded, expected, strict=True))
