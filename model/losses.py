"""The training loss: cross-entropy of the fused logits, plus the auxiliary heads on the pixels that fusion gets wrong.

Means are over valid pixels; without any the term is 0, never NaN. Source: arXiv 2603.17705.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.mobanet import MoBaNetOutput

IGNORE = 255
"""Label value of a pixel that does not count."""


def cross_entropy(logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
    """Mean over the pixels whose label is not 255; 0 (with a gradient of 0) when there is none."""
    total = F.cross_entropy(logits_BKHW.float(), target_BHW, ignore_index=IGNORE, reduction="sum")
    return total / (target_BHW != IGNORE).sum().clamp(min=1)


def hard_pixels(logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
    """The labels with 255 wherever the fused prediction is right."""
    return torch.where(logits_BKHW.argmax(1) == target_BHW, IGNORE, target_BHW)


def segmentation_loss(output: MoBaNetOutput, target_BHW: Tensor, aux_weight: float) -> Tensor:
    """Scalar loss of one batch.

    Args:
        output: of `MoBaNet.forward_with_aux`.
        target_BHW: int64 labels, 255 = ignore.
        aux_weight: weight of the auxiliary terms; the released code uses 0.01.
    """
    loss = cross_entropy(output.logits, target_BHW)
    hard_BHW = hard_pixels(output.logits, target_BHW)
    for aux in (output.aux_rgb, output.aux_dsm):
        if aux is not None:
            loss = loss + aux_weight * cross_entropy(aux, hard_BHW)
    return loss
