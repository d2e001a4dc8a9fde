"""MCRM, Modality-Conditional Random Masking: in training, samples lose a part or all of one modality, never of both.

`block` hides a rectangle, as the released code does; `full` hides the whole modality, which the paper's text asks for
and without which a scene with one sensor missing is out of distribution. Hidden means 0, after normalisation.
Source: arXiv 2603.17705.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskingConfig:
    """What to hide. A wrong value raises ValueError with a sentence that starts with its name."""

    share: float  # of the samples of a batch that lose something, 0..1; half of them image, half DSM
    full_share: float  # of those, how many lose the whole modality rather than a rectangle, 0..1
    area: tuple[float, float]  # of a rectangle, share of the image, smallest and largest, 0..1
    aspect: tuple[float, float]  # of a rectangle, height / width, smallest and largest, > 0

    def __post_init__(self) -> None:
        for name in ("share", "full_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a share from 0 to 1")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area is {list(self.area)}; expected two shares in (0, 1], the smaller first")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise ValueError(f"aspect is {list(self.aspect)}; expected two numbers above 0, the smaller first")


def mask_modalities(
    rgb_B3HW: Tensor,
    dsm_B1HW: Tensor,
    config: MaskingConfig,
    generator: torch.Generator,
    *,
    rank: int = 0,
    world_size: int = 1,
) -> tuple[Tensor, Tensor]:
    """Hide parts of a batch.

    What is hidden is drawn for the whole batch, so that it does not depend on how many ranks share it.

    Args:
        rgb_B3HW: normalised image.
        dsm_B1HW: scaled DSM.
        config: how much to hide.
        generator: on the CPU and in the same state on every rank, so that all draw the same.
        rank: which equal part of the batch is given, 0..world_size - 1.
        world_size: ranks that share the batch.

    Returns:
        Image and DSM, copies where something is hidden.
    """
    own, _, height, width = rgb_B3HW.shape
    batch = own * world_size
    chosen = torch.randperm(batch, generator=generator)[: int(batch * config.share)].tolist()
    if not chosen:
        return rgb_B3HW, dsm_B1HW
    rgb_B3HW, dsm_B1HW = rgb_B3HW.clone(), dsm_B1HW.clone()
    for place, sample in enumerate(chosen):
        rows, columns = _region(height, width, config, generator)
        hidden = rgb_B3HW if place < len(chosen) // 2 else dsm_B1HW
        if sample // own == rank:
            hidden[sample % own, :, rows, columns] = 0
    return rgb_B3HW, dsm_B1HW


def _region(height: int, width: int, config: MaskingConfig, generator: torch.Generator) -> tuple[slice, slice]:
    draw_full, draw_area, draw_aspect, draw_row, draw_column = torch.rand(5, generator=generator).tolist()
    if draw_full < config.full_share:
        return slice(None), slice(None)
    area = height * width * (config.area[0] + draw_area * (config.area[1] - config.area[0]))
    low, high = (math.log(limit) for limit in config.aspect)
    aspect = math.exp(low + draw_aspect * (high - low))
    rows = min(height, max(1, round(math.sqrt(area * aspect))))
    columns = min(width, max(1, round(math.sqrt(area / aspect))))
    top, left = int(draw_row * (height - rows + 1)), int(draw_column * (width - columns + 1))
    return slice(top, top + rows), slice(left, left + columns)
