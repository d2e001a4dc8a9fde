"""The training loss: cross-entropy of the fused logits, plus auxiliary heads on pixels that the fused head gets wrong.

Means are over valid pixels; without valid pixels a term is 0, not NaN. Sums and pixel counts are returned separately,
so that ranks that share a batch can divide by their total count. Source: arXiv 2603.17705.
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
    """The terms of a loss, one number per head: the fused head first, then the auxiliary heads."""

    sums_T: Tensor  # sum of the cross-entropy over the valid pixels of the head
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


def mean_loss(sums_T: Tensor, counts_T: Tensor, aux_weight: float) -> Tensor:
    """Scalar loss: the mean of the fused term, plus `aux_weight` times the mean of each auxiliary term.

    Args:
        sums_T: sums over the pixels of this rank.
        counts_T: pixel counts of the complete batch, summed over all ranks. The result is then the share of this rank;
            the shares of all ranks add up to the loss of the batch.
        aux_weight: weight of an auxiliary term; the released code uses 0.01.
    """
    fused, *auxiliary = (sums_T / counts_T.clamp(min=1)).unbind()
    for mean in auxiliary:
        fused = fused + aux_weight * mean
    return fused


def segmentation_loss(output: MoBaNetOutput, target_BHW: Tensor, aux_weight: float) -> Tensor:
    """Scalar loss of a batch that is not shared between ranks; arguments as in `loss_terms` and `mean_loss`."""
    return mean_loss(*loss_terms(output, target_BHW), aux_weight)
