from __future__ import annotations

import math

import torch

from model import MoBaNetOutput, segmentation_loss
from model.losses import hard_pixels, loss_terms, mean_loss


def cross_entropy(logits, target):
    return segmentation_loss(MoBaNetOutput(logits, None, None), target, 0.01)


def test_mean_is_over_valid_pixels_only():
    logits = torch.zeros(1, 2, 1, 3)
    target = torch.tensor([[[0, 1, 255]]])
    torch.testing.assert_close(cross_entropy(logits, target), torch.tensor(math.log(2)))


def test_no_valid_pixel_gives_zero_and_a_zero_gradient():
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 2, 2), 255))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_hard_pixels_are_the_wrong_ones():
    logits = torch.tensor([[[[5.0, 0.0, 5.0]], [[0.0, 5.0, 0.0]]]])
    assert hard_pixels(logits, torch.tensor([[[0, 0, 255]]])).tolist() == [[[255, 0, 255]]]


def test_auxiliary_terms_see_hard_pixels_only_and_are_weighted():
    fused = torch.tensor([[[[9.0, 9.0]], [[0.0, 0.0]]]])  # says class 0 twice
    target = torch.tensor([[[0, 1]]])  # the second is wrong
    aux = torch.tensor([[[[3.0, 0.0]], [[0.0, 0.0]]]])  # the second pixel: log 2
    output = MoBaNetOutput(fused, aux, None)
    expected = cross_entropy(fused, target) + 0.01 * math.log(2)
    torch.testing.assert_close(segmentation_loss(output, target, 0.01), expected)


def test_shares_of_ranks_with_unequal_counts_add_up_to_the_loss_of_the_batch():
    torch.manual_seed(0)
    output = MoBaNetOutput(*(torch.randn(4, 3, 5, 5) for _ in range(3)))
    target = torch.randint(0, 3, (4, 5, 5))
    target[0] = 255
    target[1, :4] = 255
    parts = [MoBaNetOutput(output.logits[i], output.aux_rgb[i], output.aux_dsm[i]) for i in (slice(0, 2), slice(2, 4))]
    terms = [loss_terms(part, part_target) for part, part_target in zip(parts, target.split(2), strict=True)]
    counts = sum(t.counts_T for t in terms)
    shares = [mean_loss(t.sums_T, counts, 0.01) for t in terms]
    assert shares[0] < shares[1] / 2
    torch.testing.assert_close(sum(shares), segmentation_loss(output, target, 0.01))
