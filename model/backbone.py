"""The vision transformer under both streams: a timm ViT taken apart into the pieces the encoder needs.

In: pixels `[B, 3, H, W]`. Between: token sequences `[B, prefix + N, C]`, prefix = class token and registers.
Other families (rotary positions, windowed attention) get a class of their own with the same members; `build_backbone`
is the door.
Letters: B batch, H W pixels, h w patches per column and row, N = h * w patch tokens, T = prefix + N tokens, C width.
Source of the position rule: DINOv2's resampling as described in the project's specification of arXiv 2603.17705.
"""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.config import MoBaNetConfig


class PlainViT(nn.Module):
    """A timm `VisionTransformer`: learned absolute positions, global attention."""

    def __init__(self, vit: VisionTransformer) -> None:
        """Take over a timm ViT; its classifier must be off (`num_classes=0`)."""
        super().__init__()
        if vit.pos_embed is None:
            raise ValueError("backbone has no position embedding; choose a ViT with learned absolute positions")
        self.vit = vit
        self.width: int = vit.embed_dim
        self.depth: int = len(vit.blocks)
        self.num_prefix_tokens: int = vit.num_prefix_tokens
        self.patch_size: int = vit.patch_embed.patch_size[0]
        self.checkpoint_blocks = False  # True: a block's activations are computed again in the backward pass

    @property
    def patch_embedding(self) -> nn.Conv2d:
        """Module that turns `[B, 3, H, W]` pixels into `[B, C, h, w]` patch embeddings."""
        projection: nn.Conv2d = self.vit.patch_embed.proj
        return projection

    def tokens(self, patches_BChw: Tensor) -> Tensor:
        """Patch embeddings -> token sequence `[B, T, C]`: class token, registers, patches, with positions."""
        vit, positions = self.vit, self.vit.pos_embed
        assert positions is not None
        height, width = patches_BChw.shape[-2:]
        patches_BNC = vit.patch_embed.norm(patches_BChw.flatten(2).transpose(1, 2))
        prefix_1PC = [token for token in (vit.cls_token, vit.reg_token) if token is not None]
        prefix_BPC = [token.expand(patches_BNC.shape[0], -1, -1) for token in prefix_1PC]
        embedded_prefix = 0 if vit.no_embed_class else self.num_prefix_tokens
        prefix_positions, patch_positions = positions.tensor_split([embedded_prefix], dim=1)
        patches_BNC = patches_BNC + resample_positions(patch_positions, self._grid, (height, width))
        if prefix_BPC:
            prefix = torch.cat(prefix_BPC, dim=1)
            patches_BNC = torch.cat([prefix + prefix_positions if embedded_prefix else prefix, patches_BNC], dim=1)
        tokens_BTC: Tensor = vit.norm_pre(patches_BNC)
        return tokens_BTC

    def run(self, tokens_BTC: Tensor, first: int, last: int) -> Tensor:
        """Apply the blocks `first` to `last`, both included."""
        for block in self.vit.blocks[first : last + 1]:
            if self.checkpoint_blocks and torch.is_grad_enabled():
                tokens_BTC = checkpoint(block, tokens_BTC, use_reentrant=False)
            else:
                tokens_BTC = block(tokens_BTC)
        return tokens_BTC

    def norm(self, tokens_BTC: Tensor) -> Tensor:
        """The backbone's final norm."""
        normed: Tensor = self.vit.norm(tokens_BTC)
        return normed

    @property
    def _grid(self) -> tuple[int, int]:
        height, width = self.vit.patch_embed.grid_size
        return height, width


def resample_positions(positions_1NC: Tensor, trained_hw: tuple[int, int], wanted_hw: tuple[int, int]) -> Tensor:
    """Position embedding of the patches for another grid, by DINOv2's rule.

    Bicubic, not antialiased, scale `(wanted + 0.1) / trained` per side: timm's own resampling is antialiased and gives
    other numbers, so a network trained with the released code would not agree.

    Args:
        positions_1NC: embedding of the trained grid, row by row.
        trained_hw: rows and columns of patches the embedding was trained for.
        wanted_hw: rows and columns to make.
    """
    if trained_hw == wanted_hw:
        return positions_1NC
    grid_1Chw = positions_1NC.unflatten(1, trained_hw).permute(0, 3, 1, 2)
    scale = [(wanted + 0.1) / trained for wanted, trained in zip(wanted_hw, trained_hw, strict=True)]
    resampled = F.interpolate(grid_1Chw.float(), scale_factor=scale, mode="bicubic", antialias=False)
    return resampled.flatten(2).transpose(1, 2).to(positions_1NC.dtype)


def build_backbone(config: MoBaNetConfig) -> PlainViT:
    """Make the backbone that a configuration names, with random weights.

    Raises:
        ValueError: timm has no such model, it takes no such argument, or it is not a plain ViT.
    """
    name = config.backbone
    if not timm.is_model(name):
        raise ValueError(f"backbone is {name!r}; timm has no model of this name; see timm.list_models()")
    try:
        vit = timm.create_model(name, pretrained=False, num_classes=0, global_pool="", **config.backbone_args)
    except TypeError as error:
        raise ValueError(f"backbone_args is {config.backbone_args}; timm's {name} refuses it: {error}") from None
    if type(vit) is not VisionTransformer:
        raise ValueError(f"backbone is {name!r}, a {type(vit).__name__}; expected a plain timm VisionTransformer")
    return PlainViT(vit)
