from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from model import MoBaNet
from model.dropout import Dropout
from model.losses import mean_loss
from model.speed import SpeedConfig, prepare
from model.training_loss import TrainingLoss
from model.upernet import resize, resize_by_products
from tests.model.roundings import Recorder

PLAIN = SpeedConfig(
    fused_attention=False,
    frozen_bf16=False,
    checkpoint_blocks=False,
    channels_last=False,
    matrix_resize=False,
    fused_optimizer=False,
    prefetch=False,
    compile=False,
    cuda_graphs=False,
)
SWITCHES = ("fused_attention", "frozen_bf16", "checkpoint_blocks", "channels_last", "matrix_resize")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def precision_of_torch_is_put_back():
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True


@pytest.fixture
def network(toy_network) -> MoBaNet:
    """In training, without dropout, and with weights that let every gradient be other than zero."""
    made = toy_network()
    for module in made.modules():
        if isinstance(module, Dropout):
            module.p = 0.0
    torch.manual_seed(1)
    with torch.no_grad():
        for gate in made.encoder.dgfm:
            gate.gate[3].weight.normal_(std=0.1)
    return made.train()


def loss_and_gradients(network, precision, speed, device="cpu"):
    network = copy.deepcopy(network).to(device)
    prepare(network, precision, speed)
    generator = torch.Generator().manual_seed(2)
    rgb, dsm = (torch.randn(8, bands, 64, 64, generator=generator) for bands in (3, 1))
    target = torch.randint(0, 6, (8, 64, 64), generator=generator)
    loss = mean_loss(*TrainingLoss(network, precision, speed)(rgb.to(device), dsm.to(device), target.to(device)), 0.01)
    loss.backward()
    gradients = [p.grad.flatten().float().cpu() for p in network.parameters() if p.grad is not None]
    return loss.item(), torch.cat(gradients), network


def difference(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_gives_the_same_loss_and_gradients(network, switch):
    loss, gradients, _ = loss_and_gradients(network, "float32", PLAIN)
    other, changed, _ = loss_and_gradients(network, "float32", dataclasses.replace(PLAIN, **{switch: True}))
    assert other == pytest.approx(loss, rel=1e-5)
    assert difference(changed, gradients) < 1e-4


@pytest.mark.parametrize("switches", [(), SWITCHES], ids=["plain", "all switches"])
def test_gradients_in_bf16_differ_from_float32_by_independent_roundings(network, switches):
    """Batch norms are fixed: over the eight numbers of the coarsest pooling they would amplify every rounding."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    loss, gradients, _ = loss_and_gradients(network, "float32", PLAIN)
    with Recorder() as recorder:
        loss_and_gradients(network, "bf16", PLAIN)
    speed = dataclasses.replace(PLAIN, **dict.fromkeys(switches, True))
    other, changed, _ = loss_and_gradients(network, "bf16", speed)
    assert other == pytest.approx(loss, rel=1e-4)
    assert 0 < difference(changed, gradients) < recorder.expected_error


@pytest.mark.parametrize("switches", [(), SWITCHES], ids=["plain", "all switches"])
def test_training_in_bf16_has_the_loss_of_float32_and_its_gradients_point_the_same_way(network, switches):
    loss, gradients, _ = loss_and_gradients(network, "float32", PLAIN)
    speed = dataclasses.replace(PLAIN, **dict.fromkeys(switches, True))
    other, changed, _ = loss_and_gradients(network, "bf16", speed)
    assert other == pytest.approx(loss, rel=1e-3)
    assert torch.cosine_similarity(changed, gradients, dim=0) > 0.9


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_trained_weights_stay_float32_and_frozen_ones_change_by_their_own_rounding_alone(network, precision):
    _, _, used = loss_and_gradients(network, precision, dataclasses.replace(PLAIN, frozen_bf16=True))
    before = dict(network.named_parameters())
    for name, weight in used.named_parameters():
        if weight.requires_grad:
            assert weight.dtype == torch.float32, name
        else:
            kept = before[name].bfloat16() if precision == "bf16" else before[name]
            assert torch.equal(weight, kept), name
            assert weight.grad is None


def test_a_finetuned_backbone_stays_float32(toy_network):
    network = toy_network(finetune=True)
    prepare(network, "bf16", dataclasses.replace(PLAIN, frozen_bf16=True))
    assert all(p.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize("fused", [True, False])
def test_attention_is_fused_in_every_block_or_in_none(toy_network, monkeypatch, fused):
    network, calls = toy_network(), []
    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: calls.append(args) or attention(*args, **kwargs),
    )
    prepare(network, "float32", dataclasses.replace(PLAIN, fused_attention=fused))
    network(torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64))
    assert len(calls) == (network.encoder.backbone.depth if fused else 0)


@pytest.mark.parametrize(("old", "new"), [((5, 7), (20, 21)), ((8, 8), (64, 64)), ((6, 6), (3, 4))])
def test_resizing_by_products_is_bilinear_interpolation(old, new):
    maps = torch.randn(2, 3, *old, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resize_by_products(maps, new), resize(maps, new), atol=1e-6, rtol=1e-5)


def test_a_cpu_does_without_what_only_a_gpu_has():
    everything = SpeedConfig(**{field.name: True for field in dataclasses.fields(SpeedConfig)})
    assert everything.on(torch.device("cuda")) == everything
    assert not everything.on(torch.device("cuda"), world_size=2).cuda_graphs
    kept = everything.on(torch.device("cpu"))
    on = {name for name, value in dataclasses.asdict(kept).items() if value}
    assert on == {"fused_attention", "frozen_bf16", "checkpoint_blocks"}


def test_graphs_without_compilation_are_refused():
    with pytest.raises(ValueError, match="cuda_graphs is True; expected False"):
        dataclasses.replace(PLAIN, cuda_graphs=True)


@gpu
@pytest.mark.system
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("bf16", 0.2)])
def test_on_a_gpu_compiled_graphs_give_the_same_loss_and_gradients(network, precision, tolerance):
    speed = dataclasses.replace(PLAIN, **dict.fromkeys(SWITCHES, True), compile=True, cuda_graphs=True)
    torch.compiler.reset()
    loss, gradients, _ = loss_and_gradients(network, "float32", PLAIN, "cuda")
    other, changed, _ = loss_and_gradients(network, precision, speed, "cuda")
    assert other == pytest.approx(loss, rel=1e-2)
    assert difference(changed, gradients) < tolerance


@gpu
@pytest.mark.parametrize("switch", SWITCHES)
def test_on_a_gpu_every_switch_gives_the_same_loss_and_gradients(network, switch):
    loss, gradients, _ = loss_and_gradients(network, "float32", PLAIN, "cuda")
    other, changed, _ = loss_and_gradients(network, "float32", dataclasses.replace(PLAIN, **{switch: True}), "cuda")
    assert other == pytest.approx(loss, rel=1e-4)
    assert difference(changed, gradients) < 1e-3
