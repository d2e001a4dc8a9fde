"""A batch whose samples have other sensors: every sample is computed as if it were alone."""

from __future__ import annotations

import math

import pytest
import torch

from model.conditional_norm import ConditionalBatchNorm2d
from model.inputs import normalise, normalise_image
from model.mobanet import conditions_of
from tests.model.toys import distinguishing, inputs, toy

NAME = "vit_tiny_patch16_224"


def mixed():
    """Samples with both sensors and holes, image only, DSM only, both, neither; and the same one by one, with None."""
    (rgb, dsm), (more_rgb, more_dsm) = inputs(), inputs()
    dsm[0, :, :20], rgb[0, :, 40:, 40:] = math.nan, math.nan
    nothing_3, nothing_1 = torch.full_like(rgb[:1], math.nan), torch.full_like(dsm[:1], math.nan)
    alone = [
        (rgb[:1], dsm[:1]),
        (rgb[1:], None),
        (None, dsm[1:]),
        (more_rgb[1:], more_dsm[1:]),
        (nothing_3, nothing_1),
    ]
    batch = [
        torch.cat([nan if x is None else x for x in xs])
        for nan, xs in zip((nothing_3, nothing_1), zip(*alone, strict=True), strict=True)
    ]
    return batch, alone


def test_the_condition_of_a_sample_is_which_inputs_have_a_value():
    batch, _ = mixed()
    assert conditions_of(*batch).tolist() == [0, 1, 2, 0, 0]


@pytest.mark.parametrize("batch_norm", ["shared", "per-condition"])
@pytest.mark.parametrize("missing", ["zero", "excluded"])
def test_every_sample_gets_the_logits_that_it_gets_alone(missing, batch_norm):
    network = toy(NAME, missing=missing, batch_norm=batch_norm)
    if (missing, batch_norm) == ("excluded", "per-condition"):
        network = distinguishing()
    batch, alone = mixed()
    with torch.no_grad():
        expected = torch.cat([network(*given) for given in alone])
        found = network(*batch)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_the_statistics_of_the_sample_are_used():
    network = distinguishing()
    rgb, dsm = (sensor[:1] for sensor in mixed()[0])  # complete
    with torch.no_grad():
        assert not torch.allclose(network(rgb, dsm), network(rgb, None), atol=0.05)


def test_a_condition_that_was_never_trained_has_the_statistics_of_both_sensors():
    network, same = distinguishing(), distinguishing()
    for norm in network.modules():
        if isinstance(norm, ConditionalBatchNorm2d):
            norm.dsm.num_batches_tracked.fill_(0)
    for norm in same.modules():
        if isinstance(norm, ConditionalBatchNorm2d):
            norm.dsm.running_mean.copy_(norm.running_mean)
            norm.dsm.running_var.copy_(norm.running_var)
    batch, alone = mixed()
    with torch.no_grad():
        found = network(*batch)[2]
        torch.testing.assert_close(found, network(*alone[2])[0], atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(found, same(*batch)[2], atol=2e-5, rtol=1e-5)


def test_an_image_is_normalised_alone_as_with_heights():
    image, dsm = torch.rand(2, 3, 8, 8) * 255, torch.rand(2, 1, 8, 8)
    mean, std = (0.1, 0.5, 0.9), (0.3, 0.2, 0.1)
    assert torch.equal(normalise_image(image, mean, std), normalise(image, dsm, mean, std)[0])
