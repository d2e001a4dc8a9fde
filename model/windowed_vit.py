"""SAM's image encoder: attention within windows in most blocks, positions learned and relative.

In: patch embeddings. Out: tokens with absolute positions; the blocks add the relative ones. timm fits both to any grid:
absolute positions are resampled (bicubic, antialiased), relative ones interpolated, windows padded at the end.
There is no class token and no final norm. SAM's neck, convolutions from the width to 256 channels, serves its mask
decoder and would replace the features that CPIA and DGFM are made for; so it is left out, and a stage's features are
the sequence itself. DGFM's own norm, one per stage, stands in for the missing one.
Letters: B batch, h w patches per column and row, N = h * w patch tokens, C width.
"""

from __future__ import annotations

from timm.layers import resample_abs_pos_embed_nhwc
from timm.models.vision_transformer_sam import VisionTransformerSAM, checkpoint_filter_fn
from torch import Tensor, nn

from model.vit import ViT


class WindowedViT(ViT):
    """A timm `VisionTransformerSAM` without its neck."""

    positions = "windowed"
    rename_released = staticmethod(checkpoint_filter_fn)
    beside = ("head.", "neck.")

    def __init__(self, vit: VisionTransformerSAM) -> None:
        """Take over a timm ViT.

        Raises:
            ValueError: its positions are rotary.
        """
        super().__init__(vit)
        if vit.rope_global is not None:
            raise ValueError("backbone has rotary positions for one grid alone; choose a SAM with relative positions")
        vit.neck = nn.Identity()  # as timm's own `prune_norm`

    def tokens(self, patches_BChw: Tensor) -> Tensor:
        """Patch embeddings -> token sequence `[B, N, C]`, with absolute positions if the backbone has any."""
        patches_BhwC = self.vit.patch_embed.norm(patches_BChw.permute(0, 2, 3, 1))
        if self.vit.pos_embed is not None:
            patches_BhwC = patches_BhwC + resample_abs_pos_embed_nhwc(self.vit.pos_embed, patches_BhwC.shape[1:3])
        tokens_BNC: Tensor = self.vit.norm_pre(patches_BhwC).flatten(1, 2)
        return tokens_BNC

    def run(self, tokens_BTC: Tensor, grid_hw: tuple[int, int], first: int, last: int) -> Tensor:
        """Apply the blocks `first` to `last`, which work on maps."""
        return super().run(tokens_BTC.unflatten(1, grid_hw), grid_hw, first, last).flatten(1, 2)

    def norm(self, tokens_BTC: Tensor) -> Tensor:
        """There is none: the tokens as they are."""
        return tokens_BTC
