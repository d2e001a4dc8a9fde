"""Which patches of which sensor are present: a value that was not measured, or was hidden, is NaN in the inputs.

In: normalised inputs with NaN. Out: inputs without NaN, and a mask of the patches with at least one measured pixel.
Nothing here depends on values on the host, so it works in compiled and exported graphs and never waits for a GPU.
Letters: B batch, C bands, H W pixels, h w patches per column and row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import Modality


@dataclass(frozen=True, slots=True)
class Presence:
    """Per patch, whether a sensor takes part in prompts and gates; at least one does.

    Where both are absent, those sensors that the sample has elsewhere take part with the value 0, or both if it has
    none. So a sample that lacks a sensor is computed as if the whole batch lacked it.
    """

    rgb_B1hw: Tensor  # bool
    dsm_B1hw: Tensor  # bool

    @classmethod
    def of(cls, rgb_BCHW: Tensor, dsm_B1HW: Tensor, patch_size: int) -> Presence:
        """The presence of both sensors; a patch is present if one of its pixels is not NaN in one of its bands."""
        rgb_B1hw, dsm_B1hw = (measured_patches(x, patch_size) for x in (rgb_BCHW, dsm_B1HW))
        has_rgb_B111, has_dsm_B111 = (x.flatten(1).any(1)[:, None, None, None] for x in (rgb_B1hw, dsm_B1hw))
        neither_B1hw = ~(rgb_B1hw | dsm_B1hw)
        return cls(
            rgb_B1hw | (neither_B1hw & (has_rgb_B111 | ~has_dsm_B111)),
            dsm_B1hw | (neither_B1hw & (has_dsm_B111 | ~has_rgb_B111)),
        )

    @property
    def only_rgb_B1hw(self) -> Tensor:
        """Patches of which only the image is present."""
        return ~self.dsm_B1hw

    @property
    def only_dsm_B1hw(self) -> Tensor:
        """Patches of which only the DSM is present."""
        return ~self.rgb_B1hw

    def tokens_MBN1(self, modalities: tuple[Modality, ...]) -> Tensor:
        """The masks in the order of tokens, `[M, B, N, 1]`, of `modalities`."""
        masks = {"rgb": self.rgb_B1hw, "dsm": self.dsm_B1hw}
        return torch.stack([masks[m].flatten(2).transpose(1, 2) for m in modalities])


def measured_patches(x_BCHW: Tensor, patch_size: int) -> Tensor:
    """Patches with at least one value that is not NaN, bool `[B, 1, h, w]`; H and W are multiples of `patch_size`."""
    measured_BCHW = (~torch.isnan(x_BCHW)).float()
    return F.max_pool2d(measured_BCHW, patch_size).amax(1, keepdim=True) > 0


def without_nan(x_BCHW: Tensor) -> Tensor:
    """The input with 0 in place of NaN."""
    return torch.where(torch.isnan(x_BCHW), 0.0, x_BCHW)
