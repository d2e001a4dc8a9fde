"""The training loss: cross-entropy of the fused logits, plus the auxiliary heads on the pixels that fusion gets wrong.

Means are over valid pixels; without any the term is 0, never NaN. Sums and pixel counts come apart, so that ranks that
share a batch can divide by the count of all of them. Source: arXiv 2603.17705.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.mobanet import MoBaNetOutput

IGNORE = 255
"""Label value of a pixel that does not count."""


class LossTerms(NamedTuple):
    """What a loss is made of, one number per head: the fused one first, then the auxiliary ones."""

    sums_T: Tensor  # cross-entropy, added up over the pixels that count
    counts_T: Tensor  # how many those are, int64


def hard_pixels(logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
    """The labels with 255 wherever the fused prediction is right."""
    return torch.where(logits_BKHW.argmax(1) == target_BHW, IGNORE, target_BHW)


def loss_terms(output: MoBaNetOutput, target_BHW: Tensor) -> LossTerms:
    """Cross-entropy of every head over its pixels.

    Args:
        output: of `MoBaNet.forward_with_aux`.
        target_BHW: int64 labels, 255 = ignore.
    """
    hard_BHW = hard_pixels(output.logits, target_BHW)
    heads = [(output.logits, target_BHW)]
    heads += [(aux, hard_BHW) for aux in (output.aux_rgb, output.aux_dsm) if aux is not None]
    sums = [F.cross_entropy(x.float(), y, ignore_index=IGNORE, reduction="sum") for x, y in heads]
    return LossTerms(torch.stack(sums), torch.stack([(y != IGNORE).sum() for _, y in heads]))


def mean_loss(sums_T: Tensor, counts_T: Tensor, aux_weight: float) -> Tensor:
    """Scalar loss: the mean of the fused term, and `aux_weight` times that of each auxiliary one.

    Args:
        sums_T: of the pixels at hand.
        counts_T: of all pixels of the batch. Where ranks share a batch, these are the counts of all ranks together, and
            the loss is this rank's share: the shares add up to the loss of the batch.
        aux_weight: the released code uses 0.01.
    """
    fused, *auxiliary = (sums_T / counts_T.clamp(min=1)).unbind()
    for mean in auxiliary:
        fused = fused + aux_weight * mean
    return fused


def segmentation_loss(output: MoBaNetOutput, target_BHW: Tensor, aux_weight: float) -> Tensor:
    """Scalar loss of one batch that a single process has."""
    return mean_loss(*loss_terms(output, target_BHW), aux_weight)
