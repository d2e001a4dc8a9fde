from __future__ import annotations

import errno
import os
import pickle

import pytest
import torch

from components.common.errors import ParamsError, WeightsError
from components.train import checkpoint
from components.train.checkpoint import Checkpoints, Progress, load, trained_state
from components.train.optim import make_optimizer

RUN = {"train": {"learning_rate": 0.001, "masking": {"share": 0.5}}, "data": "abc"}


def stepped(network, config, seed=0):
    """An optimiser that has made one step with random gradients."""
    torch.manual_seed(seed)
    optimizer = make_optimizer(network, config)
    for p in network.parameters():
        if p.requires_grad:
            p.grad = torch.randn_like(p)
    optimizer.step()
    return optimizer


@pytest.fixture
def saved(tmp_path, toy_network, train_config):
    """A folder with the checkpoints of the steps 1, 2 and 3, of which two are kept."""
    network, kept = toy_network(), Checkpoints(tmp_path, keep=2, identity=RUN)
    for step in (1, 2, 3):
        kept.save(network, make_optimizer(network, train_config()), Progress(step))
    return kept


def test_weights_optimiser_and_progress_come_back_bit_for_bit(tmp_path, toy_network, train_config):
    network = toy_network()
    optimizer = stepped(network, train_config())
    progress = Progress(7, [{"step": 5, "loss": 0.1}], [0.25, 0.5], [{"step": 6, "miou_fused": 50.0}], "run")
    kept = Checkpoints(tmp_path / "run", keep=2, identity=RUN)
    kept.folder.mkdir()
    kept.save(network, optimizer, progress)
    other = toy_network()
    other_optimizer = make_optimizer(other, train_config())
    assert load(kept.latest(), other, other_optimizer) == progress
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    before, after = optimizer.state_dict()["state"], other_optimizer.state_dict()["state"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[i][k], after[i][k]) for i in before for k in ("step", "exp_avg", "exp_avg_sq"))


def test_frozen_weights_are_not_stored(toy_network):
    assert not any(name.startswith("encoder.backbone") for name in trained_state(toy_network()))
    assert any("running_mean" in name for name in trained_state(toy_network()))


@pytest.mark.parametrize("damage", ["cut off", "one bit", "empty", "another file"])
def test_the_latest_are_kept_and_a_damaged_one_is_passed_over(saved, caplog, damage):
    newest = saved.folder / "step-00000003.safetensors"
    assert sorted(path.name for path in saved.folder.iterdir()) == ["step-00000002.safetensors", newest.name]
    assert saved.latest().progress.step == 3
    content = bytearray(newest.read_bytes())
    content[-1000] ^= 1
    spoilt = {"cut off": content[:1000], "one bit": content, "empty": b"", "another file": b"no checkpoint at all"}
    newest.write_bytes(spoilt[damage])
    assert saved.latest().progress.step == 2
    assert "step-00000003.safetensors: " in caplog.text and "using the previous checkpoint" in caplog.text


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("write", ["pickle", "pickle of protocol 0", "torch.save"])
def test_a_pickle_is_refused_by_name_and_nothing_of_it_runs(saved, tmp_path_factory, write):
    sprung = tmp_path_factory.mktemp("trap") / "sprung"
    newest = saved.folder / "step-00000003.safetensors"
    if write == "torch.save":
        torch.save({"network": Trap(sprung)}, newest)
    else:
        newest.write_bytes(pickle.dumps(Trap(sprung), protocol=0 if "0" in write else None))
    with pytest.raises(WeightsError, match=r"step-00000003.safetensors: a pickle, which can run arbitrary code"):
        saved.latest()
    assert not sprung.exists()


def test_another_run_is_refused_with_the_first_difference(saved):
    other = Checkpoints(saved.folder, 2, RUN | {"train": {"learning_rate": 0.002, "masking": {"share": 0.5}}})
    with pytest.raises(ParamsError, match=r"at step 3 had train.learning_rate = 0.001, now it is 0.002; set it back"):
        other.latest()
    newer_data = Checkpoints(saved.folder, 2, RUN | {"data": "def"})
    with pytest.raises(ParamsError, match="had data = 'abc', now it is 'def'"):
        newer_data.latest()
    assert saved.latest().progress.step == 3


def test_candidates_out_of_play_are_dropped(tmp_path, toy_network):
    network = toy_network()
    checkpoints = Checkpoints(tmp_path, keep=1, identity=RUN)
    for step in (10, 20, 30):
        checkpoints.save_candidate(network, step)
    checkpoints.drop_candidates_except({10, 30})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "candidate-00000010.safetensors",
        "candidate-00000030.safetensors",
    ]


def test_a_finished_run_starts_anew_also_with_other_parameters(saved):
    saved.finish()
    other = Checkpoints(saved.folder, 2, {"data": "def"})
    assert other.latest() is None
    assert list(saved.folder.iterdir()) == []


def test_drafts_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / ".step-00000007.safetensors.123.part").write_bytes(b"half")
    assert Checkpoints(tmp_path, keep=1, identity=RUN).latest() is None
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_checkpoints_and_nothing_else(saved, toy_network, train_config, monkeypatch, caplog):
    network = toy_network()
    optimizer = stepped(network, train_config())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "replacing", full)
        saved.save_candidate(network, 4)
        assert not saved.save(network, optimizer, Progress(4))
    assert "weights of step 4 not written (No space left on device)" in caplog.text
    assert "checkpoint of step 4 not written (No space left on device); training continues" in caplog.text
    assert saved.latest().progress.step == 3
    other = toy_network()
    saved.load_candidate(other, 4)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
    assert saved.save(network, optimizer, Progress(5))  # there is room again: the candidate is written too
    assert (saved.folder / "candidate-00000004.safetensors").exists()
    assert saved.latest().progress.step == 5


def test_the_optimisers_state_comes_back_in_the_memory_format_of_its_weights(tmp_path, toy_network, train_config):
    network = toy_network()
    kept = Checkpoints(tmp_path, keep=1, identity=RUN)
    kept.save(network, stepped(network, train_config()), Progress(1))
    other = toy_network()
    other.decoder.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(other, train_config())
    load(kept.latest(), other, optimizer)
    weight = other.decoder.bottleneck[0].weight
    assert not weight.is_contiguous()
    assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()
