"""The released recipe, built from this project's modules: same network, weights and loss, but other execution.

Each stream passes through the backbone separately, all twelve stage maps are projected, and nothing is merged or
compiled.
Source: the project's specification of arXiv 2603.17705.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model import MoBaNet, MoBaNetConfig
from model.config import Modality
from model.cpia import CPIA
from model.encoder import Encoder, Stage
from model.presence import Presence


class TwoPassEncoder(Encoder):
    """The encoder with one backbone pass per stream."""

    def forward(
        self, rgb_B3HW: Tensor | None, dsm_B1HW: Tensor | None, presence: Presence | None = None
    ) -> list[Stage]:
        """Like `Encoder.forward`, only for networks with both modalities, residual CPIA, DGFM and `missing: zero`."""
        assert rgb_B3HW is not None and dsm_B1HW is not None and presence is None
        vit = self.backbone
        embedded = (vit.patch_embedding(rgb_B3HW), self._embed_dsm(dsm_B1HW))
        grid, prefix = embedded[0].shape[-2:], vit.num_prefix_tokens
        streams = [vit.tokens(patches) for patches in embedded]
        stages, first = [], 0
        for index, tap in enumerate(self.taps):
            prompt = self.cpia[index]
            assert isinstance(prompt, CPIA)
            changes = prompts(prompt, [tokens[:, prefix:] for tokens in streams])
            streams = [
                torch.cat([tokens[:, :prefix], tokens[:, prefix:] + change], dim=1)
                for tokens, change in zip(streams, changes, strict=True)
            ]
            streams = [vit.run(tokens, grid, first, tap) for tokens in streams]
            maps = [vit.norm(tokens)[:, prefix:].transpose(1, 2).unflatten(2, grid) for tokens in streams]
            stages.append(self._project(index, maps[0], maps[1]))
            first = tap + 1
        return stages

    def _project(self, index: int, rgb_BChw: Tensor, dsm_BChw: Tensor) -> Stage:
        fused, gate = self.dgfm[index](rgb_BChw, dsm_BChw)
        fused = self.norms[index](fused.movedim(1, -1)).movedim(-1, 1)
        project = self.projections[index]
        by_modality: dict[Modality, Tensor] = {"rgb": project(rgb_BChw), "dsm": project(dsm_BChw)}
        return Stage(project(fused), by_modality, gate)


def prompts(cpia: CPIA, streams_BNC: list[Tensor]) -> list[Tensor]:
    """The change that residual CPIA adds to each stream."""
    summaries = [down(tokens) for down, tokens in zip(cpia.down, streams_BNC, strict=True)]
    shared = cpia.up(cpia.mix(torch.cat(summaries, dim=-1)))
    return [shared + shared * gamma + beta for gamma, beta in zip(cpia.gamma_MC, cpia.beta_MC, strict=True)]


class ReferenceNetwork(MoBaNet):
    """MoBaNet with the two-pass encoder; the weights have the same names."""

    def __init__(self, config: MoBaNetConfig) -> None:
        """Build the network; `config` must have both modalities, residual CPIA and DGFM, as in the released code."""
        super().__init__(config)
        self.encoder = TwoPassEncoder(config)
