from __future__ import annotations

import json
import math
import os
import pickle

import pytest
import torch
from safetensors import safe_open

from components.common.errors import NonFiniteError, ParamsError, WeightsError
from components.train.checkpoints.checkpoint import Checkpoints, Progress, load, trained_state
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
def kept(tmp_path):
    """An empty folder of a run that keeps its latest two checkpoints."""
    kept = Checkpoints(tmp_path / "run", keep=2, identity=RUN)
    kept.folder.mkdir()
    yield kept
    kept.close()


@pytest.fixture
def saved(kept, toy_network, train_config):
    """A folder with the checkpoints of the steps 1, 2 and 3, of which two are kept."""
    network = toy_network()
    for step in (1, 2, 3):
        kept.save(network, make_optimizer(network, train_config()), Progress(step))
        kept.wait()
    return kept


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_a_figure_that_is_not_defined_comes_back_from_a_header_of_strict_json(kept, toy_network, train_config):
    network = toy_network()
    kept.save(
        network, make_optimizer(network, train_config()), Progress(7, validations=[{"step": 6, "retention": math.nan}])
    )
    kept.wait()
    with safe_open(kept.folder / "step-00000007.safetensors", "pt") as file:
        header = json.loads(file.metadata()["header"], parse_constant=lambda _: 1 / 0)
    assert header["progress"]["validations"] == [{"step": 6, "retention": None}]
    assert math.isnan(kept.latest().progress.validations[0]["retention"])


def test_weights_optimiser_and_progress_come_back_bit_for_bit(kept, toy_network, train_config):
    network = toy_network()
    optimizer = stepped(network, train_config())
    progress = Progress(7, [{"step": 5, "loss": 0.1}], [[0.25, 1.5]], 1.5, [{"step": 6, "miou_fused": 50.0}], "run")
    kept.save(network, optimizer, progress)
    kept.wait()
    other = toy_network()
    other_optimizer = make_optimizer(other, train_config())
    assert load(kept.latest(), other, other_optimizer) == progress
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    before, after = optimizer.state_dict()["state"], other_optimizer.state_dict()["state"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[i][k], after[i][k]) for i in before for k in ("step", "exp_avg", "exp_avg_sq"))


def test_a_checkpoint_holds_the_state_at_the_call_also_where_training_changes_it_during_the_write(
    kept, toy_network, train_config
):
    network = toy_network()
    optimizer, progress = stepped(network, train_config()), Progress(1, losses=[{"step": 1, "loss": 0.5}])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    kept.save(network, optimizer, progress)
    progress.losses.append({"step": 2, "loss": 0.4})
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(1)
    kept.wait()
    other = toy_network()
    assert load(kept.latest(), other, make_optimizer(other, train_config())).losses == [{"step": 1, "loss": 0.5}]
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_frozen_weights_are_not_stored(toy_network):
    assert not any(name.startswith("encoder.backbone") for name in trained_state(toy_network()))
    assert any("running_mean" in name for name in trained_state(toy_network()))


@pytest.mark.parametrize("damage", ["cut off", "one bit", "empty", "another file"])
def test_the_latest_are_kept_and_a_damaged_one_is_passed_over(saved, caplog, damage):
    newest = saved.folder / "step-00000003.safetensors"
    assert names(saved) == ["step-00000002.safetensors", newest.name]
    assert saved.latest().progress.step == saved.newest_step() == 3
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


def test_a_checkpoint_removes_the_earlier_candidates_that_it_does_not_refer_to(kept, toy_network, train_config):
    network = toy_network()
    optimizer = make_optimizer(network, train_config())
    for step in (10, 20, 30):
        kept.save_candidate(network, step)
    kept.save(network, optimizer, Progress(30), candidates={10, 30})
    kept.save_candidate(network, 40)
    kept.wait()
    assert names(kept) == [f"candidate-000000{step}.safetensors" for step in (10, 30, 40)] + [
        "step-00000030.safetensors"
    ]


def test_a_finished_run_starts_anew_also_with_other_parameters(saved):
    saved.finish()
    other = Checkpoints(saved.folder, 2, {"data": "def"})
    assert other.latest() is None
    assert names(saved) == []


def test_drafts_of_a_killed_run_are_removed(kept):
    (kept.folder / ".step-00000007.safetensors.123.part").write_bytes(b"half")
    assert kept.latest() is None
    assert names(kept) == []


@pytest.mark.parametrize("where", ["weight", "optimiser", "candidate"])
def test_nothing_that_is_not_finite_is_written_and_the_training_learns_its_name(
    saved, toy_network, train_config, where
):
    network = toy_network()
    optimizer = stepped(network, train_config())
    weight = network.decoder.bottleneck[0].weight
    with torch.no_grad():
        (optimizer.state[weight]["exp_avg"] if where == "optimiser" else weight).view(-1)[3] = float("nan")
    if where == "candidate":
        saved.save_candidate(network, 4)
    else:
        saved.save(network, optimizer, Progress(4))
    with pytest.raises(NonFiniteError, match=r"step 4: \S*decoder\.bottleneck\.0\.weight has a NaN or infinite value"):
        saved.wait()
    with pytest.raises(NonFiniteError):
        saved.save(network, optimizer, Progress(5))
    assert names(saved) == ["step-00000002.safetensors", "step-00000003.safetensors"]
    assert saved.latest().progress.step == 3


def test_the_optimisers_state_comes_back_in_the_memory_format_of_its_weights(kept, toy_network, train_config):
    network = toy_network()
    kept.save(network, stepped(network, train_config()), Progress(1))
    kept.wait()
    other = toy_network()
    other.decoder.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(other, train_config())
    load(kept.latest(), other, optimizer)
    weight = other.decoder.bottleneck[0].weight
    assert not weight.is_contiguous()
    assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()
