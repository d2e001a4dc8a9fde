from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch import nn

from components.common.data.store import Store
from components.common.entrypoints import failures
from components.common.errors import ParamsError
from components.common.inference.windows import Windows
from components.train.batches import Inputs, make_inputs
from components.train.crops import Crops, batches
from components.train.optim import make_optimizer, take_step
from components.train.ranks import heartbeat
from components.train.ranks.distributed import open_ranks, single_rank
from components.train.validation import validate
from model.conditional_norm import ConditionalBatchNorm2d
from model.dropout import share_batch
from model.speed import SpeedConfig
from model.training_loss import Copies, TrainingLoss
from tests.components.train.conftest import PLAIN, TRAIN
from tests.ranks import on_ranks

CPU = torch.device("cpu")
WINDOWS = Windows(64, 64, 4, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def without_labels(inputs: Inputs, rank: int, size: int) -> Inputs:
    """The same inputs; of the batch, the first half of the samples has hardly any label left."""
    target = inputs.target_BHW.clone()
    if rank < size / 2:
        half = target[: len(target) // (2 if size == 1 else 1)]
        half[:-1] = 255
        half[-1, 2:] = 255
    return replace(inputs, target_BHW=target)


def trained(network, config, store, ranks, *, uneven):
    """Weights after all steps, and the losses; statistics of batch norms stay fixed, dropout and masks are on."""
    share_batch(network, ranks.rank, ranks.size)
    dtype = next(network.parameters()).dtype
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | ConditionalBatchNorm2d):
            module.eval()
    optimizer = make_optimizer(network, config)
    masking = config.masking
    single = TrainingLoss(
        network,
        "float32",
        SpeedConfig(**PLAIN),
        paired_weight=masking.paired_weight,
        distillation=masking.distillation,
    )
    loss = ranks.data_parallel(single)
    crops = Crops(store, store.manifest.subset("train"), config)
    losses = []
    loaded = batches(crops, config, 0, 1, rank=ranks.rank, world_size=ranks.size)
    for step, batch in enumerate(loaded, start=1):
        inputs = make_inputs(batch, step, config, WINDOWS, ranks.device, ranks.rank, ranks.size)
        inputs = replace(inputs, rgb_B3HW=inputs.rgb_B3HW.to(dtype), dsm_B1HW=inputs.dsm_B1HW.to(dtype))
        if inputs.copies:
            copies = Copies(*(c._replace(values_NCHW=c.values_NCHW.to(dtype)) for c in inputs.copies))
            inputs = replace(inputs, copies=copies)
        if uneven:
            inputs = without_labels(inputs, ranks.rank, ranks.size)
        losses.append(ranks.all_reduce(take_step(loss, optimizer, inputs, step, config, ranks).loss).item())
    return {name: p.detach().numpy() for name, p in network.named_parameters() if p.requires_grad}, losses


HALVES = {"paired": 1.0, "paired_weight": 0.5, "distillation": 0.3, "schedule": [0.2, 0.4]}
EXCLUDED = {"missing": "excluded", "batch_norm": "per-condition"}


@pytest.mark.parametrize(
    ("dtype", "uneven", "steps", "options", "masking"),
    [
        (torch.float64, False, 10, {}, {}),
        (torch.float64, True, 10, {}, {}),
        (torch.float64, True, 10, {"cpia": "adapter"}, {}),
        (torch.float32, True, 10, {}, {}),
        (torch.float64, True, 6, {}, HALVES),
        (torch.float64, False, 4, EXCLUDED, {"paired": 2.0}),
    ],
)
def test_two_ranks_with_half_the_batch_each_train_the_network_of_one(
    toy_network, train_config, toy_store, dtype, uneven, steps, options, masking
):
    """Weights are compared in float64 only: AdamW makes a full step of a gradient that is nothing but rounding."""
    store, masking = Store(toy_store), TRAIN["masking"] | masking
    config = train_config(steps=steps, batch_size=8, learning_rate=4e-4, masking=masking)

    def work():
        with open_ranks("cpu") as ranks:
            return trained(toy_network(**options).to(dtype), config, store, ranks, uneven=uneven)

    start = dict(toy_network(**options).named_parameters())
    ((one, losses),) = on_ranks(1, work)
    (first, shared_losses), (second, _) = on_ranks(2, work)
    assert shared_losses == pytest.approx(losses, rel=1e-5)
    assert max(abs(one[name] - start[name].detach().numpy()).max() for name in one) > 5e-4
    for name in one:
        assert dtype == torch.float32 or abs(first[name] - one[name]).max() < 1e-12, name
        assert (first[name] == second[name]).all(), name


def test_no_frozen_weight_is_in_a_bucket_or_sent(toy_network):
    def work():
        with open_ranks("cpu") as ranks:
            network = toy_network().train()
            loss = ranks.data_parallel(TrainingLoss(network, "float32", SpeedConfig(**PLAIN)))
            in_buckets = sum(p.numel() for p in loss._module_parameters)
            frozen = [name for name, p in loss.module.named_parameters() if not p.requires_grad]
            return in_buckets, set(frozen) <= set(loss.parameters_to_ignore)

    trainable = sum(p.numel() for p in toy_network().parameters() if p.requires_grad)
    assert on_ranks(2, work) == [(trainable, True)] * 2


def test_ranks_share_the_tiles_of_a_validation_and_all_get_the_figures_of_one(toy_network, train_config, toy_store):
    network, store, config = toy_network(), Store(toy_store), train_config().validation

    def work():
        with open_ranks("cpu") as ranks:
            if not ranks.first:
                for norm in network.modules():
                    if isinstance(norm, nn.BatchNorm2d):
                        norm.running_mean += 1  # other samples were seen here
            return validate(network, store, WINDOWS, config, ranks)

    expected = validate(toy_network(), store, WINDOWS, config, single_rank(CPU))
    assert on_ranks(2, work) == [pytest.approx(expected, nan_ok=True)] * 2


def test_an_error_of_the_first_rank_is_everybodys():
    def refuse():
        raise ParamsError("train.steps is wrong")

    def work():
        with open_ranks("cpu") as ranks:
            with pytest.raises(ParamsError, match="train.steps is wrong"):
                ranks.broadcast(refuse)
            return ranks.broadcast(lambda: f"made by {ranks.rank}")

    assert on_ranks(2, work) == ["made by 0"] * 2


def test_ranks_with_other_data_are_refused_by_name():
    def work():
        with open_ranks("cpu") as ranks:
            try:
                ranks.require_same({"train": {"seed": 1}, "data": "abc" if ranks.first else "def"})
            except ParamsError as error:
                return str(error)
            return None

    none, refused = on_ranks(2, work)
    assert none is None
    assert refused.startswith("rank 1: data is 'def', but 'abc' on rank 0; give every host the same")


def test_a_wish_to_stop_is_everybodys(monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.05)

    def work():
        with open_ranks("cpu") as ranks:
            asked = ranks.any(not ranks.first, False)
            if not ranks.first:
                os.kill(os.getpid(), signal.SIGTERM)
            deadline = time.monotonic() + 20
            while not ranks.stop.requested and time.monotonic() < deadline:
                time.sleep(0.01)
            return asked, ranks.stop.requested

    assert on_ranks(2, work) == [([True, False], True)] * 2


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_rank_ends_the_other_with_exit_code_75(lost):
    def work():
        with open_ranks("cpu") as ranks:
            ranks.any(False)
            if ranks.rank == lost:
                os.kill(os.getpid(), signal.SIGKILL)
            while True:
                ranks.any(False)

    found = on_ranks(2, work)
    assert (found[lost], found[1 - lost]) == (-signal.SIGKILL, 75)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_that_is_killed_before_it_connects_ends_the_other_with_exit_code_75(monkeypatch, lost):
    monkeypatch.setattr(heartbeat, "JOIN_S", 3.0)

    def work():
        if int(os.environ["RANK"]) == lost:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            with open_ranks("cpu"):
                return None
        except RuntimeError as error:
            return failures.find(error)

    found = on_ranks(2, work)
    assert (found[lost], found[1 - lost]) == (-signal.SIGKILL, failures.LOST_RANK)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_that_is_killed_while_the_others_connect_ends_them_with_exit_code_75(monkeypatch, lost):
    monkeypatch.setattr(heartbeat, "JOIN_S", 3.0)

    def work():
        if int(os.environ["RANK"]) == lost:
            monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        with open_ranks("cpu"):
            return None

    found = on_ranks(2, work)
    assert (found[lost], found[1 - lost]) == (-signal.SIGKILL, 75)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_that_falls_silent_ends_the_other_with_exit_code_75(monkeypatch, lost):
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.05)
    monkeypatch.setattr(heartbeat, "PATIENCE_S", 1.0)
    monkeypatch.setattr(heartbeat, "JOIN_S", 5.0)

    def work():
        with open_ranks("cpu") as ranks:
            ranks.any(False)
            if ranks.rank == lost:
                os.kill(os.getpid(), signal.SIGSTOP)  # its connections stay open, as those of a host that is cut off
            ranks.any(False)

    started = time.monotonic()
    found = on_ranks(2, work, deaf=lost)
    assert found[1 - lost] == 75
    assert time.monotonic() - started < 60


def test_more_ranks_than_gpus_is_a_sentence(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ParamsError, match="LOCAL_RANK is 1, but torch finds 1 GPUs on this host"), open_ranks("auto"):
        pass


def test_without_a_gpu_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ParamsError, match="runtime.device is cuda, but torch finds no GPU"), open_ranks("cuda"):
        pass


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"RANK": "x"},
            "the environment variable RANK is 'x'; expected a number, as torchrun sets it; start the ranks",
        ),
        ({"WORLD_SIZE": "1.5"}, "the environment variable WORLD_SIZE is '1.5'; expected a number"),
        ({"LOCAL_RANK": ""}, "the environment variable LOCAL_RANK is ''; expected a number"),
        ({"MASTER_PORT": "abc"}, "the environment variable MASTER_PORT is 'abc'; expected a number"),
        ({"MASTER_PORT": None}, "the environment variable MASTER_PORT is ''; expected a number"),
        ({"MASTER_PORT": "99999"}, "MASTER_PORT is 99999; expected a port from 1 to 65535"),
        ({"MASTER_ADDR": None}, "the environment variable MASTER_ADDR is not set; start the ranks with torchrun"),
    ],
)
def test_an_environment_of_ranks_that_is_not_valid_is_one_sentence(monkeypatch, changes, words) -> None:
    usual = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in (usual | changes).items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(ParamsError, match=words), open_ranks("cpu"):
        pytest.fail("the ranks have no valid environment")
