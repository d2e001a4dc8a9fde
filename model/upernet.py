"""UPerNet decoder for four maps of equal size, and the auxiliary head. No convolution has a bias.

In: four maps `[B, 256, h, w]`. Out: logits `[B, K, H, W]`, resized bilinearly (`align_corners=False`).
Source: arXiv 2603.17705; tests/model/test_reference.py tests agreement with the released code.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.conditional_norm import Conditions, ConvNorm, Norm
from model.dropout import Dropout

POOL_SIDES = (1, 2, 3, 6)


def conv_norm(inputs: int, outputs: int, kernel: int, norm: Norm) -> ConvNorm:
    """Convolution without bias, padded so that the size is unchanged, and BatchNorm."""
    return ConvNorm([nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), norm(outputs)])


def block(inputs: int, outputs: int, kernel: int, norm: Norm) -> ConvNorm:
    """Convolution, BatchNorm, ReLU6."""
    return conv_norm(inputs, outputs, kernel, norm).append(nn.ReLU6())


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps `[B, K, h, w]` bilinearly to `size`, (rows, columns)."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def resize_by_products(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps `[B, K, h, w]` like `resize`, in float32, with one matrix product per side.

    On a GPU, the backward pass of an interpolation adds to the same cells from many threads, in an undefined order. The
    backward pass of a matrix product is deterministic.
    """
    with torch.autocast(maps.device.type, enabled=False):
        rows_Hh, columns_Ww = (_bilinear(old, new, maps.device) for old, new in zip(maps.shape[-2:], size, strict=True))
        return rows_Hh @ (maps.float() @ columns_Ww.T)


def _bilinear(old: int, new: int, device: torch.device) -> Tensor:
    """Matrix `[new, old]` that resizes one side bilinearly."""
    return F.interpolate(torch.eye(old, device=device)[None], size=new, mode="linear", align_corners=False)[0].T


class PyramidPooling(nn.Module):
    """Concatenates a map with its averages on grids of 1, 2, 3 and 6 cells per side, and mixes them by a 3x3 block."""

    def __init__(self, inputs: int, channels: int, norm: Norm) -> None:
        """Build the module for maps of `inputs` channels; every branch and the output have `channels` channels."""
        super().__init__()
        self.branches = nn.ModuleList(block(inputs, channels, 1, norm) for _ in POOL_SIDES)
        self.bottleneck = block(inputs + len(POOL_SIDES) * channels, channels, 3, norm)
        self.pool: Callable[[Tensor, int], Tensor] = F.adaptive_avg_pool2d

    def forward(self, maps: Tensor, condition: Conditions) -> Tensor:
        """`[B, inputs, h, w]` -> `[B, channels, h, w]`."""
        size = (maps.shape[-2], maps.shape[-1])
        pooled = [
            resize(branch(self.pool(maps, side), condition), size)
            for side, branch in zip(POOL_SIDES, self.branches, strict=True)
        ]
        mixed: Tensor = self.bottleneck(torch.cat([maps, *pooled], dim=1), condition)
        return mixed


class UPerNet(nn.Module):
    """Pyramid pooling of the last stage, lateral convolutions of the others, top-down sums, one classifier."""

    def __init__(self, inputs: int, channels: int, num_classes: int, norm: Norm = nn.BatchNorm2d) -> None:
        """Build the decoder for four maps of `inputs` channels; its own maps have `channels` channels."""
        super().__init__()
        self.pyramid = PyramidPooling(inputs, channels, norm)
        self.laterals = nn.ModuleList(conv_norm(inputs, channels, 1, norm) for _ in range(3))
        self.smooths = nn.ModuleList(block(channels, channels, 3, norm) for _ in range(3))
        self.bottleneck = block(4 * channels, channels, 3, norm)
        self.classifier = nn.Sequential(Dropout(0.1, whole_maps=True), nn.Conv2d(channels, num_classes, 1, bias=False))
        self.resize_logits = resize

    def forward(self, stages: list[Tensor], size: tuple[int, int], condition: Conditions = "both") -> Tensor:
        """Logits `[B, K, H, W]`, float32, of four maps of equal size; `size` is (H, W)."""
        top = self.pyramid(stages[3], condition)
        sums = [top]
        for index in (2, 1, 0):
            sums.insert(0, self.laterals[index](stages[index], condition) + sums[0])
        maps = [smooth(total, condition) for smooth, total in zip(self.smooths, sums[:3], strict=True)] + [top]
        mixed = self.bottleneck(torch.cat(maps, dim=1), condition)
        return self.resize_logits(self.classifier(mixed).float(), size)


class AuxiliaryHead(nn.Module):
    """Classifies one modality from its first stage; used in training only."""

    def __init__(self, inputs: int, num_classes: int, norm: Norm = nn.BatchNorm2d) -> None:
        """Build the head for maps of `inputs` channels."""
        super().__init__()
        self.block = block(inputs, inputs, 3, norm)
        self.dropout = Dropout(0.1)
        self.classifier = nn.Conv2d(inputs, num_classes, 1, bias=False)
        self.resize_logits = resize

    def forward(self, maps: Tensor, size: tuple[int, int], condition: Conditions = "both") -> Tensor:
        """Logits `[B, K, H, W]`, float32; `size` is (H, W)."""
        return self.resize_logits(self.classifier(self.dropout(self.block(maps, condition))).float(), size)
