"""DGFM, the Difference-Guided Gated Fusion Module: weight image against DSM per channel and position.

In: two feature maps of one stage, same shape. Out: one map of that shape, and the gate (1 = image only, 0 = DSM only).
The gate is computed from both maps and their difference. It starts at 0.5, the plain mean.
Source: arXiv 2603.17705; tests/model/test_reference.py tests agreement with the released code.
Letters: B batch, C channels, h w token rows and columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.presence import Presence


class DGFM(nn.Module):
    """Gated fusion of one stage."""

    def __init__(self, width: int, ratio: float) -> None:
        """Build the module for maps of `width` channels.

        The bottleneck has `ratio * width` channels, at most `width / 8` and at least 32.
        """
        super().__init__()
        bottleneck = max(32, int(width * min(ratio, 0.125)))
        self.reduce_rgb = nn.Conv2d(width, bottleneck, 1, bias=False)
        self.reduce_dsm = nn.Conv2d(width, bottleneck, 1, bias=False)
        self.gate = nn.Sequential(
            nn.Conv2d(3 * bottleneck, bottleneck, 1, bias=False),
            nn.GroupNorm(1, bottleneck),
            nn.GELU(),
            nn.Conv2d(bottleneck, width, 1),
        )
        last = self.gate[3]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, rgb_BChw: Tensor, dsm_BChw: Tensor, presence: Presence | None = None) -> tuple[Tensor, Tensor]:
        """Fused features and the gate, both `[B, C, h, w]`.

        With `presence`, an absent patch counts as 0 in the gates of other patches, which see it through the norm. Its
        own gate is 1 if only the image is present and 0 if only the DSM is.
        """
        a, b = self.reduce_rgb(rgb_BChw), self.reduce_dsm(dsm_BChw)
        if presence is not None:
            a, b = torch.where(presence.rgb_B1hw, a, 0.0), torch.where(presence.dsm_B1hw, b, 0.0)
        gate_BChw = torch.sigmoid(self.gate(torch.cat([a, b, (a - b).abs()], dim=1)))
        if presence is not None:
            gate_BChw = torch.where(presence.only_rgb_B1hw, 1.0, gate_BChw)
            gate_BChw = torch.where(presence.only_dsm_B1hw, 0.0, gate_BChw)
        return gate_BChw * rgb_BChw + (1 - gate_BChw) * dsm_BChw, gate_BChw
