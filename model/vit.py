"""A timm vision transformer taken apart into the pieces the encoder needs: what its families have in common.

In: pixels `[B, 3, H, W]`. Between: token sequences `[B, prefix + N, C]`, prefix = class token and registers.
A family (`plain_vit.py`, `rotary_vit.py`, `windowed_vit.py`) says how tokens get their positions.
Letters: B batch, H W pixels, h w patches per column and row, N = h * w patch tokens, T = prefix + N tokens, C width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class ViT(nn.Module):
    """A frozen or finetuned timm ViT; a family overrides what differs."""

    positions: ClassVar[str]
    """How tokens know where they are, in a word or two."""

    rename_released: ClassVar[Callable[..., dict[str, Tensor]]]
    """timm's `(weights as released, timm model) -> weights under timm's names`."""

    beside: ClassVar[tuple[str, ...]] = ("head.", "head_dist.", "fc_norm.", "attn_pool.")
    """Weights of a released file that belong to a classifier on top, by the start of their names: not used here."""

    def __init__(self, vit: Any) -> None:
        """Take over a timm ViT; what it has on top for a classifier goes.

        Raises:
            ValueError: it does not cut pixels into patches at once, or its positions are of another family.
        """
        super().__init__()
        if type(vit.patch_embed) is not PatchEmbed:
            kind = type(vit.patch_embed).__name__
            raise ValueError(f"backbone has a {kind} before its blocks; choose a ViT that cuts pixels into patches")
        vit.prune_intermediate_layers(len(vit.blocks), prune_head=True)
        self.vit = vit
        self.width: int = vit.embed_dim
        self.depth: int = len(vit.blocks)
        self.num_prefix_tokens: int = getattr(vit, "num_prefix_tokens", 0)
        self.patch_size: int = vit.patch_embed.patch_size[0]
        self.checkpoint_blocks = False  # True: a block's activations are computed again in the backward pass

    @property
    def patch_embedding(self) -> nn.Conv2d:
        """Module that turns `[B, 3, H, W]` pixels into `[B, C, h, w]` patch embeddings."""
        projection: nn.Conv2d = self.vit.patch_embed.proj
        return projection

    def tokens(self, patches_BChw: Tensor) -> Tensor:
        """Patch embeddings -> token sequence `[B, T, C]`: class token, registers, patches."""
        raise NotImplementedError

    def run(self, tokens_BTC: Tensor, grid_hw: tuple[int, int], first: int, last: int) -> Tensor:
        """Apply the blocks `first` to `last`, both included, to the tokens of a grid of patches."""
        more = self.block_arguments(grid_hw)
        for block in self.vit.blocks[first : last + 1]:
            if self.checkpoint_blocks and torch.is_grad_enabled():
                tokens_BTC = checkpoint(block, tokens_BTC, *more, use_reentrant=False)
            else:
                tokens_BTC = block(tokens_BTC, *more)
        return tokens_BTC

    def block_arguments(self, grid_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        """What a block wants besides the tokens."""
        return ()

    def norm(self, tokens_BTC: Tensor) -> Tensor:
        """The backbone's final norm."""
        normed: Tensor = self.vit.norm(tokens_BTC)
        return normed

    def _prefix(self, batch: int) -> list[Tensor]:
        tokens_1PC = (self.vit.cls_token, self.vit.reg_token)
        return [token.expand(batch, -1, -1) for token in tokens_1PC if token is not None]
