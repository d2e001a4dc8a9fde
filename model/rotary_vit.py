"""Backbones with DINOv3's rotary positions: queries and keys are rotated by angles that depend on the position.

In: patch embeddings. Out: tokens without positions, and the angles of a grid, which every block applies.
Angles depend on the relative position between the edges of the image, so a grid of any size works without resampling.
Letters: B batch, h w patches per column and row, N = h * w patch tokens, C width, D width of a head.
"""

from __future__ import annotations

import torch
from timm.layers import RotaryEmbeddingDinoV3
from timm.models.eva import Eva, checkpoint_filter_fn
from torch import Tensor

from model.vit import ViT


class RotaryViT(ViT):
    """A timm `Eva` as DINOv3 uses it. EVA-02 and other models of that class define positions differently."""

    positions = "rotary"
    rename_released = staticmethod(checkpoint_filter_fn)

    def __init__(self, vit: Eva) -> None:
        """Wrap a timm ViT.

        Raises:
            ValueError: `vit` does not use DINOv3's rotary positions.
        """
        super().__init__(vit)
        if vit.pos_embed is not None or not isinstance(vit.rope, RotaryEmbeddingDinoV3):
            raise ValueError("backbone has rotary positions of another kind; choose a DINOv3 backbone")
        vit.rope.aug_active = (
            False  # no random shift of the grid, also in finetuning: the four stages need the same grid
        )

    def tokens(self, patches_BChw: Tensor) -> Tensor:
        """Patch embeddings `[B, C, h, w]` -> token sequence `[B, T, C]`; the blocks add the positions."""
        patches_BNC = patches_BChw.flatten(2).transpose(1, 2)
        tokens_BTC: Tensor = self.vit.norm_pre(torch.cat([*self._prefix(patches_BNC.shape[0]), patches_BNC], dim=1))
        return tokens_BTC

    def block_arguments(self, grid_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        """Sines and cosines of the angles of a grid of `(h, w)` patches, `[N, 2 D]`."""
        return (self.vit.rope.get_embed(list(grid_hw)),)
