"""model/conditional_norm.py: batch norm with statistics per combination of sensors."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from model.conditional_norm import ConditionalBatchNorm2d, ConvNorm, communicates, synchronise
from tests.model.toys import inputs, toy

NAME = "vit_tiny_patch16_224"
CONDITIONS = ("both", "rgb", "dsm")


def maps(seed=0):
    return torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(seed)) * 2 + seed


def trained(condition, seed=1):
    """A norm whose scale and shift matter, after three batches of one condition."""
    norm = ConditionalBatchNorm2d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.5, 2.0]))
        norm.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    for step in range(3):
        norm(maps(seed + step), condition)
    return norm


def trained_network():
    """A network after a training step in every condition."""
    network, (rgb, dsm) = toy(NAME, missing="excluded", batch_norm="per-condition").train(), inputs()
    network(rgb, dsm), network(rgb, None), network(None, dsm)
    return network.eval()


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_is_a_batch_norm_of_its_own(condition):
    theirs = nn.BatchNorm2d(3)
    norm = trained(condition)
    theirs.load_state_dict({"weight": norm.weight, "bias": norm.bias}, strict=False)
    for step in range(3):
        theirs(maps(1 + step))
    assert torch.equal(copy.deepcopy(norm)(maps(), condition), copy.deepcopy(theirs)(maps()))
    assert torch.equal(norm.eval()(maps(), condition), theirs.eval()(maps()))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_training_changes_the_statistics_of_its_condition_only(condition):
    fresh, norm = ConditionalBatchNorm2d(3).state_dict(), trained(condition)
    changed = {name for name, value in norm.named_buffers() if not torch.equal(value, fresh[name])}
    prefix = "" if condition == "both" else f"{condition}."
    assert changed == {prefix + name for name in ("running_mean", "running_var", "num_batches_tracked")}


@pytest.mark.parametrize("condition", ["rgb", "dsm"])
def test_a_condition_that_was_never_trained_has_the_statistics_of_both(condition):
    norm = trained("both").eval()
    assert torch.equal(norm(maps(), condition), norm(maps(), "both"))
    norm.train()(maps(5), condition)
    assert not torch.allclose(norm.eval()(maps(), condition), norm(maps(), "both"))


def test_the_state_is_that_of_a_batch_norm_and_more():
    norm, theirs = trained("both"), nn.BatchNorm2d(3)
    assert theirs.state_dict().keys() < norm.state_dict().keys()
    theirs.load_state_dict(norm.state_dict(), strict=False)
    assert torch.equal(theirs.eval()(maps()), norm.eval()(maps(), "both"))


@pytest.mark.parametrize("missing", ["zero", "excluded"])
def test_a_forward_pass_uses_the_statistics_of_the_sensors_it_is_given(missing):
    network, (rgb, dsm) = toy(NAME, missing=missing, batch_norm="per-condition").train(), inputs()
    norms = [module for module in network.modules() if isinstance(module, ConditionalBatchNorm2d)]
    assert len(norms) == 14 and not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    network(rgb, dsm), network(rgb, None), network(rgb, None), network(None, dsm)
    decoder = [module for module in network.decoder.modules() if isinstance(module, ConditionalBatchNorm2d)]
    for norm in decoder:
        assert [int(one.num_batches_tracked) for one in (norm, norm.rgb, norm.dsm)] == [1, 2, 1]
    network.forward_with_aux(rgb, None)
    streams = (1, 0) if missing == "excluded" else (1, 1)
    assert tuple(int(network.aux[m].block[1].rgb.num_batches_tracked) for m in ("rgb", "dsm")) == streams


def test_shared_statistics_have_the_names_that_they_always_had():
    shared, own = toy(NAME).state_dict(), toy(NAME, batch_norm="per-condition").state_dict()
    assert {name.rsplit(".", 1)[-1] for name in own.keys() - shared.keys()} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    assert "decoder.pyramid.branches.0.1.running_mean" in shared and shared.keys() < own.keys()


def test_networks_of_shared_and_of_own_statistics_agree_until_a_condition_is_trained():
    shared, network, (rgb, dsm) = toy(NAME), toy(NAME, batch_norm="per-condition"), inputs()
    shared.train()(rgb, dsm), shared.eval()
    network.train()(rgb, dsm), network.eval()
    for given in ((rgb, dsm), (rgb, None), (None, dsm)):
        torch.testing.assert_close(shared(*given), network(*given), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("modalities", [("rgb",), ("dsm",)])
def test_a_network_for_one_sensor_has_one_set(modalities):
    network = toy(NAME, modalities=modalities, batch_norm="per-condition", missing="excluded")
    assert not any(isinstance(module, ConditionalBatchNorm2d) for module in network.modules())
    assert network(*inputs()).shape == (2, 6, 64, 64)


def test_threads_share_a_network_under_different_conditions():
    network, (rgb, dsm) = trained_network(), inputs()
    given = [(rgb, dsm), (rgb, None), (None, dsm)]
    with torch.inference_mode():
        expected = [network(*one) for one in given]
    assert not torch.allclose(expected[0], expected[1])

    def run(index):
        with torch.inference_mode():
            return torch.equal(network(*given[index % 3]), expected[index % 3])

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(run, range(30)))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_compiled_norm_updates_its_statistics(condition):
    norm = trained(condition)
    other = copy.deepcopy(norm)
    compiled = torch.compile(other.forward, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(maps(), condition), norm(maps(), condition))
    for name, value in norm.named_buffers():
        torch.testing.assert_close(other.get_buffer(name), value)


def test_channels_last_and_bf16_keep_their_layout_and_type():
    layers = ConvNorm([nn.Conv2d(3, 4, 1, bias=False), ConditionalBatchNorm2d(4)])
    layers.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        out = layers(maps().to(memory_format=torch.channels_last), "rgb")
    assert out.dtype == torch.bfloat16 and out.is_contiguous(memory_format=torch.channels_last)


def test_over_ranks_every_norm_communicates():
    network = toy(NAME, batch_norm="per-condition")
    assert not communicates(network)
    synchronise(network)
    assert communicates(network)
    assert not communicates(toy(NAME))
    assert communicates(nn.SyncBatchNorm.convert_sync_batchnorm(toy(NAME)))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_over_ranks_torch_gets_the_statistics_of_the_condition(condition, monkeypatch):
    norm, calls = ConditionalBatchNorm2d(3), []
    synchronise(norm)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda group: 2)
    monkeypatch.setattr("model.conditional_norm.SyncedNorm.apply", lambda *given: calls.append(given) or given[0])
    norm(maps(), condition)
    own = {"both": norm, "rgb": norm.rgb, "dsm": norm.dsm}[condition]
    _, weight, bias, mean, var, eps, momentum, _, size = calls[0]
    assert (weight is norm.weight, bias is norm.bias) == (True, True)
    assert (mean is own.running_mean, var is own.running_var) == (True, True)
    assert (eps, momentum, size, int(own.num_batches_tracked)) == (norm.eps, norm.momentum, 2, 1)
    norm.eval()(maps(), condition)  # as every rank has the same statistics, evaluation needs no other rank
    assert len(calls) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("condition", CONDITIONS)
def test_on_a_gpu_a_group_of_one_rank_has_the_values_of_its_samples(condition, tmp_path):
    alone = trained(condition).cuda()
    shared = copy.deepcopy(alone)
    synchronise(shared)
    pixels = [maps().cuda().requires_grad_() for _ in range(2)]
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("nccl", store=store, rank=0, world_size=1)
    try:
        found, expected = shared(pixels[0], condition), alone(pixels[1], condition)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        found.square().sum().backward(), expected.square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close(pixels[0].grad, pixels[1].grad, atol=1e-4, rtol=1e-4)
    for name, value in alone.named_buffers():
        torch.testing.assert_close(shared.get_buffer(name), value, atol=1e-5, rtol=1e-5)
