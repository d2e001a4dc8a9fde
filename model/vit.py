"""Base class of the backbones: a timm vision transformer, split into the parts that the encoder calls.

In: pixels `[B, 3, H, W]`. Out: token sequences `[B, T, C]`: class token and registers (the prefix), then patches.
The families (`plain_vit.py`, `rotary_vit.py`, `windowed_vit.py`) define how tokens get their positions.
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
    """A frozen or finetuned timm ViT. Families override the methods in which they differ."""

    positions: ClassVar[str]
    """Name of the position encoding: learned, rotary or windowed."""

    rename_released: ClassVar[Callable[..., dict[str, Tensor]]]
    """timm's function `(released weights, timm model) -> weights under timm's names`."""

    ignored_prefixes: ClassVar[tuple[str, ...]] = ("head.", "head_dist.", "fc_norm.", "attn_pool.")
    """Prefixes of released weights that belong to a classifier or a neck; they are ignored."""

    def __init__(self, vit: Any) -> None:
        """Wrap a timm ViT and remove its classifier.

        Raises:
            ValueError: the ViT has other layers than a patch embedding before its blocks, or positions of another
                family.
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
        self.checkpoint_blocks = False  # True: recompute the activations of a block in the backward pass

    @property
    def patch_embedding(self) -> nn.Conv2d:
        """The convolution from pixels `[B, 3, H, W]` to patch embeddings `[B, C, h, w]`."""
        projection: nn.Conv2d = self.vit.patch_embed.proj
        return projection

    def tokens(self, patches_BChw: Tensor) -> Tensor:
        """Patch embeddings `[B, C, h, w]` -> token sequence `[B, T, C]`: class token, registers, patches."""
        raise NotImplementedError

    def run(self, tokens_BTC: Tensor, grid_hw: tuple[int, int], first: int, last: int) -> Tensor:
        """Apply the blocks `first` to `last`, inclusive, to the tokens of a grid of `(h, w)` patches."""
        more = self.block_arguments(grid_hw)
        for block in self.vit.blocks[first : last + 1]:
            if self.checkpoint_blocks and torch.is_grad_enabled():
                tokens_BTC = checkpoint(block, tokens_BTC, *more, use_reentrant=False)
            else:
                tokens_BTC = block(tokens_BTC, *more)
        return tokens_BTC

    def block_arguments(self, grid_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        """Arguments of a block in addition to the tokens."""
        return ()

    def norm(self, tokens_BTC: Tensor) -> Tensor:
        """Apply the final norm of the backbone, `[B, T, C]` -> `[B, T, C]`."""
        normed: Tensor = self.vit.norm(tokens_BTC)
        return normed

    def _prefix(self, batch: int) -> list[Tensor]:
        tokens_1PC = (self.vit.cls_token, self.vit.reg_token)
        return [token.expand(batch, -1, -1) for token in tokens_1PC if token is not None]
