"""Backbones with DINOv3's rotary positions: queries and keys are turned by angles that depend on the place.

In: patch embeddings. Out: tokens without positions, and the angles of a grid for every block.
Angles are a function of the place between the edges of the image, so any grid will do and nothing is resampled.
Letters: B batch, h w patches per column and row, N = h * w patch tokens, C width, D width of a head.
"""

from __future__ import annotations

import torch
from timm.layers import RotaryEmbeddingDinoV3
from timm.models.eva import Eva, checkpoint_filter_fn
from torch import Tensor

from model.vit import ViT


class RotaryViT(ViT):
    """A timm `Eva` as DINOv3 uses it; EVA-02 and others of that class number their places otherwise."""

    positions = "rotary"
    rename_released = staticmethod(checkpoint_filter_fn)

    def __init__(self, vit: Eva) -> None:
        """Take over a timm ViT.

        Raises:
            ValueError: its positions are not DINOv3's.
        """
        super().__init__(vit)
        if vit.pos_embed is not None or not isinstance(vit.rope, RotaryEmbeddingDinoV3):
            raise ValueError("backbone has rotary positions of another kind; choose a ViT with those of DINOv3")
        vit.rope.aug_active = False  # finetuned or not: four stages must see one and the same grid

    def tokens(self, patches_BChw: Tensor) -> Tensor:
        """Patch embeddings -> token sequence; positions come in the blocks."""
        patches_BNC = patches_BChw.flatten(2).transpose(1, 2)
        tokens_BTC: Tensor = self.vit.norm_pre(torch.cat([*self._prefix(patches_BNC.shape[0]), patches_BNC], dim=1))
        return tokens_BTC

    def block_arguments(self, grid_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        """Sines and cosines of the angles, `[N, 2 D]`."""
        return (self.vit.rope.get_embed(list(grid_hw)),)
