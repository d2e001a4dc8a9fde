"""SAM's image encoder: attention within windows in most blocks, with absolute and relative positions.

In: patch embeddings. Out: tokens with absolute positions; the blocks add the relative positions. timm adapts both to a
grid of any size: it resamples absolute positions (bicubic, antialiased), interpolates relative positions and pads
windows at the bottom and the right.
SAM has no class token and no final norm. Its neck, convolutions from the width to 256 channels, is made for SAM's mask
decoder and would replace the features that CPIA and DGFM need, so it is removed. The features of a stage are the
tokens themselves; the norm of each stage in the encoder normalises them.
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
    ignored_prefixes = ("head.", "neck.")

    def __init__(self, vit: VisionTransformerSAM) -> None:
        """Wrap a timm ViT.

        Raises:
            ValueError: the positions of `vit` are rotary.
        """
        super().__init__(vit)
        if vit.rope_global is not None:
            raise ValueError(
                "backbone has rotary positions for a single grid size; choose a SAM with relative positions"
            )
        vit.neck = nn.Identity()  # as timm's `prune_norm` does

    def tokens(self, patches_BChw: Tensor) -> Tensor:
        """Patch embeddings `[B, C, h, w]` -> tokens `[B, N, C]`, with absolute positions if the backbone has any."""
        patches_BhwC = self.vit.patch_embed.norm(patches_BChw.permute(0, 2, 3, 1))
        if self.vit.pos_embed is not None:
            patches_BhwC = patches_BhwC + resample_abs_pos_embed_nhwc(self.vit.pos_embed, patches_BhwC.shape[1:3])
        tokens_BNC: Tensor = self.vit.norm_pre(patches_BhwC).flatten(1, 2)
        return tokens_BNC

    def run(self, tokens_BTC: Tensor, grid_hw: tuple[int, int], first: int, last: int) -> Tensor:
        """Apply the blocks `first` to `last`, inclusive; they work on maps `[B, h, w, C]`."""
        return super().run(tokens_BTC.unflatten(1, grid_hw), grid_hw, first, last).flatten(1, 2)

    def norm(self, tokens_BTC: Tensor) -> Tensor:
        """Return the tokens unchanged: SAM has no final norm."""
        return tokens_BTC
