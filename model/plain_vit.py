"""Backbones with learned absolute positions and global attention: DINOv2 and all other plain timm ViTs.

In: patch embeddings. Out: tokens with positions, for a grid of any size.
Letters: B batch, h w patches per column and row, N = h * w patch tokens, P prefix tokens, C width.
Source of the resampling rule: DINOv2, as used by arXiv 2603.17705.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor

from model.vit import ViT


class PlainViT(ViT):
    """A timm `VisionTransformer`."""

    positions = "learned"
    rename_released = staticmethod(checkpoint_filter_fn)

    def __init__(self, vit: VisionTransformer) -> None:
        """Wrap a timm ViT.

        Raises:
            ValueError: `vit` has no position embedding.
        """
        super().__init__(vit)
        if vit.pos_embed is None:
            raise ValueError("backbone has no position embedding; choose a ViT with learned absolute positions")
        self.resample = resample_positions

    def tokens(self, patches_BChw: Tensor) -> Tensor:
        """Patch embeddings `[B, C, h, w]` -> token sequence `[B, P + N, C]` with positions."""
        vit, grid_hw = self.vit, (patches_BChw.shape[-2], patches_BChw.shape[-1])
        patches_BNC = vit.patch_embed.norm(patches_BChw.flatten(2).transpose(1, 2))
        embedded_prefix = 0 if vit.no_embed_class else self.num_prefix_tokens
        prefix_positions, patch_positions = vit.pos_embed.tensor_split([embedded_prefix], dim=1)
        tokens_BTC = patches_BNC + self.resample(patch_positions, vit.patch_embed.grid_size, grid_hw)
        if prefix := self._prefix(patches_BNC.shape[0]):
            prefix_BPC = torch.cat(prefix, dim=1)
            prefix_BPC = prefix_BPC + prefix_positions if embedded_prefix else prefix_BPC
            tokens_BTC = torch.cat([prefix_BPC, tokens_BTC], dim=1)
        normed: Tensor = vit.norm_pre(tokens_BTC)
        return normed


def resample_positions(positions_1NC: Tensor, trained_hw: tuple[int, int], wanted_hw: tuple[int, int]) -> Tensor:
    """Resample the position embedding of the patches to another grid with DINOv2's rule.

    The rule is bicubic interpolation without antialiasing, with the scale `(wanted + 0.1) / trained` per side. timm's
    own resampling is antialiased and gives different values, so it would not reproduce the released code.

    Args:
        positions_1NC: embedding of the trained grid, row by row.
        trained_hw: rows and columns of patches in the trained grid.
        wanted_hw: rows and columns of patches in the new grid.

    Returns:
        Embedding `[1, N, C]` of the new grid, row by row.
    """
    if trained_hw == wanted_hw:
        return positions_1NC
    grid_1Chw = positions_1NC.unflatten(1, trained_hw).permute(0, 3, 1, 2)
    scale = [(wanted + 0.1) / trained for wanted, trained in zip(wanted_hw, trained_hw, strict=True)]
    resampled = F.interpolate(grid_1Chw.float(), scale_factor=scale, mode="bicubic", antialias=False)
    return resampled.flatten(2).transpose(1, 2).to(positions_1NC.dtype)
