from __future__ import annotations

import torch

from components.train.checkpoint import Checkpoints, Progress, run_key, trained_state
from components.train.optim import make_optimizer


def stepped(network, config, seed=0):
    """An optimiser that has made one step with random gradients."""
    torch.manual_seed(seed)
    optimizer = make_optimizer(network, config)
    for p in network.parameters():
        if p.requires_grad:
            p.grad = torch.randn_like(p)
    optimizer.step()
    return optimizer


def test_weights_optimiser_and_progress_come_back_bit_for_bit(tmp_path, toy_network, train_config):
    network = toy_network()
    optimizer = stepped(network, train_config())
    progress = Progress(7, [{"step": 5, "loss": 0.1}], [{"step": 6, "miou_fused": 50.0}], "run")
    Checkpoints(tmp_path / "run", keep=2).save(network, optimizer, progress)
    other = toy_network()
    other_optimizer = make_optimizer(other, train_config())
    assert Checkpoints(tmp_path / "run", keep=2).restore(other, other_optimizer) == progress
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    before, after = optimizer.state_dict()["state"], other_optimizer.state_dict()["state"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[i][k], after[i][k]) for i in before for k in ("step", "exp_avg", "exp_avg_sq"))


def test_frozen_weights_are_not_stored(toy_network):
    assert not any(name.startswith("encoder.backbone") for name in trained_state(toy_network()))
    assert any("running_mean" in name for name in trained_state(toy_network()))


def test_the_latest_are_kept_and_a_damaged_one_is_passed_over(tmp_path, toy_network, train_config, caplog):
    network = toy_network()
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(network, make_optimizer(network, train_config()), Progress(step))
    kept = sorted(path.name for path in tmp_path.glob("step-*"))
    assert kept == ["step-00000002.safetensors", "step-00000003.safetensors"]
    newest = tmp_path / kept[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    assert checkpoints.restore(network, make_optimizer(network, train_config())).step == 2
    assert "step-00000003.safetensors: not a readable checkpoint" in caplog.text


def test_candidates_out_of_play_are_dropped(tmp_path, toy_network):
    network = toy_network()
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step in (10, 20, 30):
        checkpoints.save_candidate(network, step)
    checkpoints.drop_candidates_except({10, 30})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "candidate-00000010.safetensors",
        "candidate-00000030.safetensors",
    ]


def test_a_finished_run_starts_anew(tmp_path, toy_network, train_config):
    network = toy_network()
    optimizer = make_optimizer(network, train_config())
    checkpoints = Checkpoints(tmp_path / "run", keep=2)
    checkpoints.save(network, optimizer, Progress(8))
    checkpoints.finish()
    assert Checkpoints(tmp_path / "run", keep=2).restore(network, optimizer) == Progress()


def test_drafts_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / ".step-00000007.safetensors.123.part").write_bytes(b"half")
    Checkpoints(tmp_path, keep=1)
    assert list(tmp_path.iterdir()) == []


def test_every_shaping_value_changes_the_key():
    keys = {run_key(s) for s in ({"lr": 1, "data": "a"}, {"lr": 2, "data": "a"}, {"lr": 1, "data": "b"})}
    assert len(keys) == 3
    assert run_key({"b": 1, "a": 2}) == run_key({"a": 2, "b": 1})


def test_the_optimisers_state_comes_back_in_the_memory_format_of_its_weights(tmp_path, toy_network, train_config):
    network = toy_network()
    Checkpoints(tmp_path, keep=1).save(network, stepped(network, train_config()), Progress(1))
    other = toy_network()
    other.decoder.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(other, train_config())
    Checkpoints(tmp_path, keep=1).restore(other, optimizer)
    weight = other.decoder.bottleneck[0].weight
    assert not weight.is_contiguous()
    assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()
