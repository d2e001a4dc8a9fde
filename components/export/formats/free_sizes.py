"""Let an exported network take inputs of any height and width, where its backbone allows that.

In: a network. Out: inside `traceable`, the same network computed by operations whose sizes exporters keep free: average
pooling on a grid and the resampling of positions, each as one matrix product per side. They differ by rounding only.
Letters: B batch, C channels, h w patches per column and row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from model.plain_vit import PlainViT
from model.rotary_vit import RotaryViT
from model.upernet import PyramidPooling
from model.vit import ViT

CUBIC = -0.75
"""The constant of torch's bicubic interpolation."""


def multiple_px(network: nn.Module, window_px: int) -> int | None:
    """Height and width of an input may be any multiple of this, pixels, from two on; None: only the window's side."""
    backbone = next(module for module in network.modules() if isinstance(module, ViT))
    several = window_px >= 2 * backbone.patch_size  # exporters take a single patch for a size that is always 1
    return backbone.patch_size if _is_free(backbone) and several else None


def _is_free(backbone: ViT) -> bool:
    """Whether a backbone computes a grid of any size by the same operations.

    SAM does not: its windows are padded to whole ones, and its tables of positions are made for one size.
    """
    if isinstance(backbone, RotaryViT):
        rope = backbone.vit.rope
        return bool(rope.normalize_coords == "separate" and rope.grid_indexing == "ij")
    return isinstance(backbone, PlainViT)


def free_dimensions(multiple: int | None) -> dict[int, Any]:
    """The free dimensions of every input `[N, C, H, W]`, as `torch.export` takes them.

    Args:
        multiple: result of `multiple_px`.
    """
    free: dict[int, Any] = {0: torch.export.Dim("N")}
    if multiple is not None:
        rows, columns = (torch.export.Dim(name, min=2, max=65535 // multiple) for name in ("h", "w"))
        free |= {2: multiple * rows, 3: multiple * columns}
    return free


@contextmanager
def traceable(network: nn.Module) -> Iterator[None]:
    """Inside, a network uses only operations that exporters know, and that keep free sizes free."""
    replaced: list[tuple[nn.Module, str, bool, object]] = []

    def replace(module: nn.Module, name: str, value: object) -> None:
        replaced.append((module, name, name in vars(module), getattr(module, name)))
        setattr(module, name, value)

    try:
        for module in network.modules():
            if hasattr(module, "fused_attn"):  # exporters know four dimensions only; SAM has three
                replace(module, "fused_attn", False)
            if isinstance(module, PyramidPooling):
                replace(module, "pool", pool_by_products)
            if isinstance(module, PlainViT):
                replace(module, "resample", resample_by_products)
            if isinstance(module, RotaryViT) and _is_free(module):
                replace(module, "block_arguments", partial(_angles, module))
        yield
    finally:
        for module, name, own, value in replaced:
            if own:
                setattr(module, name, value)
            else:
                delattr(module, name)  # a method of the class; a copy of the module must not call ours


def pool_by_products(maps_BChw: Tensor, side: int) -> Tensor:
    """`F.adaptive_avg_pool2d`: averages of a grid of `side` times `side` cells, `[B, C, side, side]`."""
    rows, columns = (_averaging(size, side) for size in maps_BChw.shape[-2:])
    return rows @ (maps_BChw @ columns.T)


def _averaging(size: int, side: int) -> Tensor:
    """Matrix `[side, size]` whose rows average the pixels of a cell; cells may overlap by a pixel."""
    cell, pixel = torch.arange(side)[:, None], torch.arange(size)[None]
    first, beyond = (cell * size) // side, ((cell + 1) * size + side - 1) // side
    inside = ((pixel >= first) & (pixel < beyond)).float()
    return inside / inside.sum(1, keepdim=True)


def _angles(backbone: RotaryViT, grid_hw: tuple[int, int]) -> tuple[Tensor, ...]:
    """`RotaryViT.block_arguments`, for a grid that may be free."""
    rope = backbone.vit.rope
    places = [torch.arange(size) for size in grid_hw]
    rows, columns = ((place + 0.5 + rope.grid_offset) / (place[-1] + 1) for place in places)
    grid_N2 = 2.0 * torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1) - 1.0
    return (torch.cat(rope._get_pos_embed_from_coords(grid_N2), dim=-1),)


def resample_by_products(positions_1NC: Tensor, trained_hw: tuple[int, int], wanted_hw: tuple[int, int]) -> Tensor:
    """`resample_positions` of `model/plain_vit.py` for a grid that may be free."""
    grid_1Chw = positions_1NC.unflatten(1, trained_hw).permute(0, 3, 1, 2)
    places = [torch.arange(wanted) for wanted in wanted_hw]
    same = [place[-1] == trained - 1 for place, trained in zip(places, trained_hw, strict=True)]
    unchanged = same[0] & same[1]
    rows, columns = (
        torch.where(unchanged, (place[:, None] == torch.arange(trained)).float(), _cubic(place, trained))
        for place, trained in zip(places, trained_hw, strict=True)
    )
    return (rows @ grid_1Chw.float() @ columns.T).flatten(2).transpose(1, 2).to(positions_1NC.dtype)


def _cubic(place: Tensor, trained: int) -> Tensor:
    """Matrix `[wanted, trained]` of bicubic interpolation with DINOv2's scale; edges are repeated."""
    wanted = place[-1] + 1
    source = (place + 0.5) * (trained / (wanted + 0.1)) - 0.5
    first = source.floor()
    share = source - first
    distance = torch.stack([1 + share, share, 1 - share, 2 - share], 1)
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1
    far = ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC
    weight = torch.where(distance <= 1, near, far)
    neighbour = (first[:, None].long() + torch.arange(-1, 3)).clamp(0, trained - 1)
    return (weight[..., None] * (neighbour[..., None] == torch.arange(trained)).float()).sum(1)
