"""The loss of a batch and its copies, against a direct computation."""

from __future__ import annotations

import pytest
import torch

from model.losses import copy_terms, mean_loss
from model.training_loss import Copies, SensorCopies, TrainingLoss
from tests.model.toys import OFF

WEIGHTS = {"paired_weight": 0.7, "distillation": 0.3}


def batch(samples=4, side=32):
    generator = torch.Generator().manual_seed(0)
    rgb, dsm = (torch.randn(samples, bands, side, side, generator=generator) for bands in (3, 1))
    target = torch.randint(0, 6, (samples, side, side), generator=generator)
    target[0, :7] = 255
    return rgb, dsm, target


def copies_of(rgb, dsm, target, of_image, of_heights):
    def some(values, places):
        return SensorCopies(values[places], target[places], torch.tensor(places))

    return Copies(some(rgb, of_image), some(dsm, of_heights))


def mean_cross_entropy(logits, target):
    losses = [-logits[b, :, y, x].log_softmax(0)[target[b, y, x]] for b, y, x in (target != 255).nonzero().tolist()]
    return torch.stack(losses).mean()


def mean_divergence(logits, teacher, target):
    known = teacher.softmax(1)
    each = (known * (known.log() - logits.softmax(1).log())).sum(1)
    return each[target != 255].mean()


@pytest.mark.parametrize("missing", ["zero", "excluded"])
@pytest.mark.parametrize("aux_heads", [False, True])
def test_copies_add_their_cross_entropy_and_their_divergence_from_the_complete_crop(toy_network, missing, aux_heads):
    network, (rgb, dsm, target) = toy_network(missing=missing, aux_heads=aux_heads), batch(side=16)
    copies = copies_of(rgb, dsm, target, [0, 3], [1, 2, 3])
    with torch.no_grad():
        terms = TrainingLoss(network, "float32", OFF, **WEIGHTS)(rgb, dsm, target, copies)
        plain = TrainingLoss(network, "float32", OFF, **WEIGHTS)(rgb, dsm, target)
        fused, image, heights = network(rgb, dsm), network(rgb[[0, 3]], None), network(None, dsm[[1, 2, 3]])
    expected = mean_loss(*plain, 0.01)
    for logits, crops in ((image, [0, 3]), (heights, [1, 2, 3])):
        expected = expected + 0.7 * mean_cross_entropy(logits, target[crops])
        expected = expected + 0.3 * mean_divergence(logits, fused[crops], target[crops])
    torch.testing.assert_close(mean_loss(*terms, 0.01, 2), expected)
    assert terms.counts_T[:-2].tolist() == plain.counts_T.tolist()
    assert terms.counts_T[-2:].tolist() == [(target[crops] != 255).sum() for crops in ([0, 3], [1, 2, 3])]


def test_all_crops_in_order_need_no_places(toy_network):
    network, (rgb, dsm, target) = toy_network(), batch()
    loss, every = TrainingLoss(network, "float32", OFF, **WEIGHTS), list(range(4))
    indexed = loss(rgb, dsm, target, copies_of(rgb, dsm, target, every, every))
    plain = loss(rgb, dsm, target, Copies(SensorCopies(rgb, target, None), SensorCopies(dsm, target, None)))
    assert all(torch.equal(a, b) for a, b in zip(indexed, plain, strict=True))


def test_the_complete_crop_is_not_changed_by_what_it_teaches():
    torch.manual_seed(0)
    copy, teacher = (torch.randn(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    terms = copy_terms(copy, torch.randint(0, 3, (2, 4, 4)), teacher, 1.0, 1.0)
    terms.sums_T.sum().backward()
    assert teacher.grad is None and copy.grad.abs().min() > 0


def test_a_copy_like_the_complete_crop_has_no_divergence_and_ignored_pixels_count_in_neither_part():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randint(0, 3, (2, 4, 4))
    one, two = (copy_terms(logits, target, teacher, 1.0, 5.0) for teacher in (None, logits))
    torch.testing.assert_close(one.sums_T, two.sums_T)
    ignored = copy_terms(logits, torch.full_like(target, 255), torch.randn(2, 3, 4, 4), 1.0, 5.0)
    assert (ignored.sums_T.tolist(), ignored.counts_T.tolist()) == ([0.0], [0])
    ignored.sums_T.sum().backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("missing", ["zero", "excluded"])
def test_a_copy_learns_nothing_from_the_hidden_sensor(toy_network, missing):
    """The same copies beside other complete crops: their terms and the statistics of their conditions are the same."""
    rgb, dsm, target = batch()
    copies = copies_of(rgb, dsm, target, [0, 1], [2, 3])

    def run(rgb, dsm):
        network = toy_network(missing=missing, batch_norm="per-condition").train()
        torch.manual_seed(0)
        loss = TrainingLoss(network, "float32", OFF)
        terms = loss(rgb, dsm, target, copies)
        seen = {name: b for name, b in network.decoder.named_buffers() if ".rgb." in name or ".dsm." in name}
        return terms.sums_T[-2:], seen

    (sums, seen), (others, same) = run(rgb, dsm), run(rgb + 1, dsm * 2)
    assert torch.equal(sums, others) and all(torch.equal(value, same[name]) for name, value in seen.items())
    assert {int(b) for name, b in seen.items() if "num_batches" in name} == {1}


def test_bf16_copies_have_nearly_the_terms_of_float32(toy_network):
    network, (rgb, dsm, target) = toy_network(), batch()
    copies = copies_of(rgb, dsm, target, [0, 2], [1, 3])
    exact, rounded = (
        mean_loss(*TrainingLoss(network, precision, OFF, **WEIGHTS)(rgb, dsm, target, copies), 0.01, 2)
        for precision in ("float32", "bf16")
    )
    assert rounded.dtype == torch.float32 and rounded.item() == pytest.approx(exact.item(), rel=0.02)
