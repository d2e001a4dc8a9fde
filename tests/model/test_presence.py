"""model/presence.py and what the network does where a sensor is absent: a patch, a sample, a complete batch."""

from __future__ import annotations

import math

import pytest
import torch

from model import segmentation_loss
from model.presence import Presence, measured_patches, without_nan
from model.speed import fuse_attention
from tests.model.toys import ONE_OF_EACH_FAMILY, inputs, toy

PLAIN = "vit_tiny_patch16_224"
PATCH = 8
EVERY_SWITCH = [
    {},
    {"cpia": "adapter"},
    {"cpia": "none"},
    {"dgfm": False},
    {"cpia": "none", "dgfm": False},
]
families = pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
switches = pytest.mark.parametrize("changes", EVERY_SWITCH, ids=str)


def holes():
    """Image and DSM of two samples: the image lacks the upper patches of one, the DSM the left patches of both."""
    rgb, dsm = inputs()
    rgb[0, :, : 2 * PATCH] = math.nan
    dsm[..., : 3 * PATCH] = math.nan
    rgb[1, 1:, 30:50, 30:50] = math.nan  # one band is left everywhere
    return rgb, dsm


def all_nan(x):
    return torch.full_like(x, math.nan)


def test_a_patch_is_present_if_one_band_of_one_pixel_is():
    x = torch.full((1, 2, 4, 6), math.nan)
    assert not measured_patches(x, 2).any()
    x[0, 1, 3, 2] = 0.0
    x[0, 0, 0, 5] = math.inf
    expected = torch.zeros(1, 1, 2, 3, dtype=torch.bool)
    expected[0, 0, 1, 1] = expected[0, 0, 0, 2] = True
    assert torch.equal(measured_patches(x, 2), expected)
    assert without_nan(x).isnan().sum() == 0 and without_nan(x)[0, 0, 0, 5] == math.inf


@pytest.mark.parametrize(
    ("rgb", "dsm", "expected_rgb", "expected_dsm"),
    [
        ([1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 1], [1, 0, 1, 1]),  # where both are absent, both take part
        ([1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]),  # but not a sensor that the sample lacks
        ([0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]),
        ([0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]),
    ],
)
def test_at_least_one_sensor_takes_part_everywhere(rgb, dsm, expected_rgb, expected_dsm):
    rgb, dsm = (torch.tensor([[[row]]], dtype=torch.float32).log() * 0 for row in (rgb, dsm))  # 1 -> 0, 0 -> NaN
    found = Presence.of(rgb, dsm, 1)
    assert found.rgb_B1hw.flatten().tolist() == [bool(x) for x in expected_rgb]
    assert found.dsm_B1hw.flatten().tolist() == [bool(x) for x in expected_dsm]


@families
@switches
@pytest.mark.parametrize("bf16", [False, True])
def test_with_both_sensors_excluded_is_zero_to_the_last_bit(name, changes, bf16):
    (rgb, dsm), zero, excluded = inputs(), toy(name, **changes), toy(name, missing="excluded", **changes)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        one, other = zero.forward_with_aux(rgb, dsm), excluded.forward_with_aux(rgb, dsm)
    assert all(torch.equal(getattr(one, key), getattr(other, key)) for key in ("logits", "aux_rgb", "aux_dsm"))
    gates, others = (network.forward_with_gates(rgb, dsm)[1] for network in (zero, excluded))
    assert len(gates) == len(others) and all(map(torch.equal, gates, others))


@families
def test_with_zero_nan_is_0_and_none_is_a_sensor_of_nan(name):
    network, (rgb, dsm) = toy(name), holes()
    assert torch.equal(network(rgb, dsm), network(without_nan(rgb), without_nan(dsm)))
    assert torch.equal(network(rgb, None), network(rgb, all_nan(dsm)))
    assert torch.equal(network(None, dsm), network(all_nan(rgb), dsm))


@families
@switches
def test_a_sample_without_a_sensor_is_computed_as_a_batch_without_it(name, changes):
    """Also if the sensor that is left has holes, where neither has a value."""
    network, (rgb, dsm) = toy(name, missing="excluded", **changes), holes()
    expected = torch.cat([network(rgb[:1], None), network(None, dsm[1:])])
    rgb[1], dsm[0] = math.nan, math.nan
    torch.testing.assert_close(network(rgb, dsm), expected, atol=1e-5, rtol=1e-5)


@switches
def test_nothing_of_the_stream_of_an_absent_sensor_reaches_the_result(changes):
    network, (rgb, dsm) = toy(PLAIN, missing="excluded", **changes), inputs()
    before = network(rgb, all_nan(dsm)), network(all_nan(rgb), dsm)
    assert not torch.allclose(*before)
    with torch.no_grad():
        network.encoder.dsm_patch_embedding.weight.normal_()
        network.encoder.dsm_patch_embedding.bias.normal_()
        for prompt in network.encoder.cpia:
            prompt.down[1].weight.normal_()
            prompt.down[1].bias.normal_()
    assert torch.equal(network(rgb, all_nan(dsm)), before[0])
    assert not torch.allclose(network(all_nan(rgb), dsm), before[1])


@pytest.mark.parametrize("dgfm", [True, False])
def test_a_patch_of_one_sensor_has_the_features_of_that_stream(dgfm):
    network, (rgb, dsm) = toy(PLAIN, missing="excluded", cpia="none", dgfm=dgfm), holes()
    encoder, presence = network.encoder, Presence.of(rgb, dsm, PATCH)
    rgb, dsm = without_nan(rgb), without_nan(dsm)
    mixed, images, heights = encoder(rgb, dsm, presence), encoder(rgb, None), encoder(None, dsm)
    only = [mask.expand(-1, 256, -1, -1) for mask in (presence.only_rgb_B1hw, presence.only_dsm_B1hw)]
    assert all(mask.any() and not mask.all() for mask in only)
    for stage, *streams in zip(mixed, images, heights, strict=True):
        for mask, stream in zip(only, streams, strict=True):
            torch.testing.assert_close(stage.fused_BChw[mask], stream.fused_BChw[mask], atol=1e-4, rtol=1e-4)
            elsewhere = ~(only[0] | only[1])
            assert not torch.allclose(stage.fused_BChw[elsewhere], stream.fused_BChw[elsewhere], atol=1e-2)


def test_gates_say_which_sensor_is_present():
    network, (rgb, dsm) = toy(PLAIN, missing="excluded"), holes()
    presence = Presence.of(rgb, dsm, PATCH)
    both = (presence.rgb_B1hw & presence.dsm_B1hw).expand(-1, 64, -1, -1)
    for gate in network.forward_with_gates(rgb, dsm)[1]:
        assert torch.equal(gate == 1, presence.only_rgb_B1hw.expand_as(gate))
        assert torch.equal(gate == 0, presence.only_dsm_B1hw.expand_as(gate))
        assert ((gate[both] > 0) & (gate[both] < 1)).all()
    for given, share in (((rgb, None), 1.0), ((None, dsm), 0.0)):
        gates = network.forward_with_gates(*given)[1]
        assert [tuple(gate.shape) for gate in gates] == [(2, 64, 8, 8)] * 4
        assert all((gate == share).all() for gate in gates)


def test_an_absent_token_adds_nothing_to_the_prompt_not_even_a_bias():
    prompt = toy(PLAIN).encoder.cpia[0]
    tokens_MBNC, present = torch.randn(2, 1, 3, 64), torch.ones(2, 1, 3, 1, dtype=torch.bool)
    present[1, 0, 0] = present[0, 0, 2] = False
    found = prompt(tokens_MBNC, present)
    for index, kept in ((0, [0]), (1, [0, 1]), (2, [1])):
        token = tokens_MBNC[:, :, index : index + 1]
        summaries = [prompt.down[m](token[m]) * (m in kept) for m in (0, 1)]
        shared = prompt.up(prompt.mix(torch.cat(summaries, -1)))
        change = shared + shared * prompt.gamma_MC[:, None, None] + prompt.beta_MC[:, None, None]
        torch.testing.assert_close(found[:, :, index : index + 1], token + change)


@pytest.mark.parametrize("cpia", ["residual", "adapter"])
@pytest.mark.parametrize("only", [0, 1])
def test_a_stream_alone_has_the_prompt_of_a_pair_whose_other_half_is_absent(cpia, only):
    prompt, tokens_MBNC = toy(PLAIN, cpia=cpia).encoder.cpia[0], torch.randn(2, 2, 3, 64)
    present = torch.zeros(2, 2, 3, 1, dtype=torch.bool)
    present[only] = True
    alone = prompt(tokens_MBNC[only : only + 1], only=only)
    torch.testing.assert_close(alone, prompt(tokens_MBNC, present)[only : only + 1])


@families
@pytest.mark.parametrize(("missing", "samples"), [("zero", 4), ("excluded", 2)])
def test_the_stream_of_a_sensor_that_a_batch_lacks_runs_with_zero_only(name, missing, samples):
    network, (rgb, dsm), sizes = toy(name, missing=missing), inputs(), []
    network.encoder.backbone.vit.blocks[0].register_forward_hook(lambda _, given, out: sizes.append(len(out)))
    image_only, dsm_only = network.forward_with_aux(rgb, None), network.forward_with_aux(None, dsm)
    assert sizes == [samples] * 2
    assert (image_only.aux_dsm is None) == (dsm_only.aux_rgb is None) == (missing == "excluded")
    assert image_only.aux_rgb is not None and dsm_only.aux_dsm is not None
    assert torch.equal(image_only.logits, network(rgb, None))


@pytest.mark.parametrize("modalities", [("rgb",), ("dsm",)])
def test_a_network_for_one_sensor_has_0_for_nan(modalities):
    rgb, dsm = holes()
    zero, excluded = (toy(PLAIN, modalities=modalities, missing=missing) for missing in ("zero", "excluded"))
    given = (rgb, None) if modalities == ("rgb",) else (None, dsm)
    assert torch.equal(excluded(rgb, dsm), zero(without_nan(rgb), without_nan(dsm)))
    assert torch.equal(excluded(*given), zero(rgb, dsm))


def test_samples_without_any_value_are_those_of_zero():
    rgb, dsm = map(all_nan, inputs())
    assert torch.equal(toy(PLAIN, missing="excluded")(rgb, dsm), toy(PLAIN)(rgb, dsm))


@switches
@pytest.mark.parametrize("given", ["holes", "image", "dsm"])
def test_gradients_are_finite_whatever_is_missing(changes, given):
    network, (rgb, dsm) = toy(PLAIN, missing="excluded", batch_norm="per-condition", **changes).train(), holes()
    output = network.forward_with_aux(None if given == "dsm" else rgb, None if given == "image" else dsm)
    segmentation_loss(output, torch.randint(0, 6, (2, 64, 64)), aux_weight=0.01).backward()
    reached = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert all(gradient.isfinite().all() for gradient in reached.values())
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    if given == "holes":
        assert reached.keys() == trained
    else:
        absent = "dsm" if given == "image" else "rgb"
        assert {"decoder.classifier.1.weight", "encoder.norms.0.weight"} <= reached.keys() < trained
        assert not any(absent in name for name in reached)


@pytest.mark.parametrize("given", ["holes", "image"])
def test_compiled_it_is_one_graph_with_the_same_values(given):
    network, (rgb, dsm) = toy(PLAIN, missing="excluded", batch_norm="per-condition"), holes()
    compiled = torch.compile(network.forward, backend="eager", dynamic=False, fullgraph=True)
    pixels = (rgb, dsm if given == "holes" else None)
    with torch.no_grad():
        assert torch.equal(compiled(*pixels), network(*pixels))


class OfImages(torch.nn.Module):
    """A network that gets images only, as a graph for images alone is exported."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, rgb):
        return self.network(rgb, None)


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:# The axis name")
@pytest.mark.parametrize("images_only", [False, True])
def test_an_exported_graph_sees_what_is_absent(tmp_path, images_only):
    onnxruntime = pytest.importorskip("onnxruntime")
    network, (rgb, dsm) = toy(PLAIN, missing="excluded", batch_norm="per-condition"), holes()
    network.train()(rgb, dsm), network(rgb, None), network.eval()
    fuse_attention(network, False)
    module, given = (OfImages(network).eval(), (rgb,)) if images_only else (network, (rgb, dsm))
    shapes = [{0: torch.export.Dim("N")} for _ in given]
    program = torch.onnx.export(module, given, dynamo=True, opset_version=20, dynamic_shapes=shapes, verbose=False)
    program.save(str(tmp_path / "graph.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "graph.onnx"), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    more = [x.repeat(2, 1, 1, 1)[:3] for x in given]
    more[-1][0] = math.nan  # a sample without the sensor
    for batch in (given, more):
        found = session.run(None, {name: x.numpy() for name, x in zip(names, batch, strict=True)})[0]
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), module(*batch), atol=1e-4, rtol=1e-4)
