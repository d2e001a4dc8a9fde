"""The training loss: cross-entropy of the fused logits, plus auxiliary heads on pixels that the fused head gets wrong.

Copies of crops that have one sensor only add a term per sensor: cross-entropy, and the divergence of their classes from
the fused ones of the same crop. Means are over valid pixels; without valid pixels a term is 0, not NaN. Sums and pixel
counts are returned separately, so that ranks that share a batch can divide by their total count.
Source: arXiv 2603.17705.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.mobanet import MoBaNetOutput

IGNORE_INDEX = 255
"""Label value of pixels that are excluded from the loss."""


class LossTerms(NamedTuple):
    """The terms of a loss: the fused head first, then the auxiliary heads, then the copies of each sensor."""

    sums_T: Tensor  # sum over the valid pixels of the term
    counts_T: Tensor  # number of these pixels, int64


def hard_pixels(logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
    """The labels, set to 255 (ignore) where the prediction is correct, `[B, H, W]`."""
    return torch.where(logits_BKHW.argmax(1) == target_BHW, IGNORE_INDEX, target_BHW)


def loss_terms(output: MoBaNetOutput, target_BHW: Tensor) -> LossTerms:
    """Sum the cross-entropy of every head over its valid pixels.

    Args:
        output: result of `MoBaNet.forward_with_aux`.
        target_BHW: int64 labels, 255 = ignore.
    """
    hard_BHW = hard_pixels(output.logits, target_BHW)
    heads = [(output.logits, target_BHW)]
    heads += [(aux, hard_BHW) for aux in (output.aux_rgb, output.aux_dsm) if aux is not None]
    sums = [F.cross_entropy(x.float(), y, ignore_index=IGNORE_INDEX, reduction="sum") for x, y in heads]
    return LossTerms(torch.stack(sums), torch.stack([(y != IGNORE_INDEX).sum() for _, y in heads]))


def copy_terms(
    logits_NKHW: Tensor, target_NHW: Tensor, teacher_NKHW: Tensor | None, weight: float, distillation: float
) -> LossTerms:
    """One term for the copies of a sensor: cross-entropy times `weight`, plus divergence times `distillation`.

    The divergence is that of Kullback and Leibler, KL(teacher || copy) of the class probabilities of a pixel, in nats.
    The teacher gets no gradient.

    Args:
        logits_NKHW: fused logits of the copies.
        target_NHW: int64 labels, 255 = ignore in both parts.
        teacher_NKHW: fused logits of the same crops, as masked in this step; None without distillation.
        weight: of the cross-entropy.
        distillation: of the divergence.
    """
    logits_NKHW = logits_NKHW.float()
    total = weight * F.cross_entropy(logits_NKHW, target_NHW, ignore_index=IGNORE_INDEX, reduction="sum")
    valid_NHW = target_NHW != IGNORE_INDEX
    if teacher_NKHW is not None:
        copy_NKHW, known_NKHW = logits_NKHW.log_softmax(1), teacher_NKHW.detach().float().log_softmax(1)
        divergence_NHW = F.kl_div(copy_NKHW, known_NKHW, reduction="none", log_target=True).sum(1)
        total = total + distillation * torch.where(valid_NHW, divergence_NHW, 0).sum()
    return LossTerms(total[None], valid_NHW.sum()[None])


def joined(*terms: LossTerms) -> LossTerms:
    """All terms in one pair of tensors, in the given order."""
    return LossTerms(*(torch.cat(tensors) for tensors in zip(*terms, strict=True)))


def mean_loss(sums_T: Tensor, counts_T: Tensor, aux_weight: float, copies: int = 0) -> Tensor:
    """Scalar loss: the means of the fused term and of the copies, plus `aux_weight` times that of each auxiliary term.

    Args:
        sums_T: sums over the pixels of this rank.
        counts_T: pixel counts of the complete batch, summed over all ranks. The result is then the share of this rank;
            the shares of all ranks add up to the loss of the batch.
        aux_weight: weight of an auxiliary term; the released code uses 0.01.
        copies: how many terms at the end are those of copies; their weights are in the sums.
    """
    total, *others = (sums_T / counts_T.clamp(min=1)).unbind()
    auxiliary = len(others) - copies
    for index, mean in enumerate(others):
        total = total + (aux_weight * mean if index < auxiliary else mean)
    return total


def segmentation_loss(output: MoBaNetOutput, target_BHW: Tensor, aux_weight: float) -> Tensor:
    """Scalar loss of a batch that is not shared between ranks; arguments as in `loss_terms` and `mean_loss`."""
    return mean_loss(*loss_terms(output, target_BHW), aux_weight)
