"""MCRM, Modality-Conditional Random Masking: in training, hide a part or all of one modality of some samples.

Block masking hides a rectangle, as in the released code. Full masking hides the complete modality, as in the text of
the paper; without it, an input with a missing sensor is out of distribution. A sample never loses parts of both
modalities, and a sample that has one modality only is not masked. Source: arXiv 2603.17705.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from model.config import STRICT

Share = Annotated[float, Field(ge=0, le=1)]
Area = Annotated[float, Field(gt=0, le=1)]
Aspect = Annotated[float, Field(gt=0, le=1000)]
CopiesPerCrop = Annotated[float, Field(ge=0, le=2)]
PairedWeight = Annotated[float, Field(gt=0, le=1e6)]
Weight = Annotated[float, Field(ge=0, le=1e6)]

HIDDEN = math.nan
"""Value of what is hidden, as of what was not measured; the network decides what an absent value becomes."""


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class MaskingConfig:
    """How much to hide.

    Raises:
        ValueError: a value is out of range; the message names the field.
    """

    share: Share  # expected share of the samples that are masked, 0..1; half of them in the image, half in the DSM
    full_share: Share  # probability that a masked sample loses the complete modality, not a rectangle, 0..1
    area: tuple[Area, Area]  # smallest and largest area of a rectangle / area of the crop, (0, 1]
    aspect: tuple[Aspect, Aspect]  # smallest and largest height / width of a rectangle, > 0
    paired: CopiesPerCrop = 0.0  # copies per crop with one sensor only, 0..2; 1: half image, half DSM; 2: one of each
    paired_weight: PairedWeight = 1.0  # of the loss of the copies of each sensor, > 0
    distillation: Weight = 0.0  # weight of the divergence between the classes of a copy and the fused ones, >= 0
    schedule: tuple[Share, Share] = (0.0, 0.0)  # part of the training before the shares begin, and until they are full

    def __post_init__(self) -> None:
        for name in ("area", "aspect"):
            smallest, largest = getattr(self, name)
            if smallest > largest:
                raise ValueError(f"{name} is {[smallest, largest]}; expected the smaller number first")
        if sum(self.schedule) > 1:
            raise ValueError(f"schedule is {list(self.schedule)}; expected two numbers with a sum of 1 or less")

    def at(self, ramp: float) -> MaskingConfig:
        """This config with `share` multiplied by `ramp`, 0..1."""
        return self if ramp == 1 else replace(self, share=self.share * ramp)

    def copies(self, batch_size: int) -> int:
        """Copies of each sensor in a batch of `batch_size` crops: half of `paired` per crop, rounded."""
        return round(self.paired * batch_size / 2)


def mask_modalities(
    rgb_B3HW: Tensor,
    dsm_B1HW: Tensor,
    config: MaskingConfig,
    generator: torch.Generator,
    *,
    rank: int = 0,
    world_size: int = 1,
    paired_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mask some samples of a batch.

    Masks are drawn for the complete batch, so they do not depend on the number of ranks that share it. `config.share`
    holds in expectation for any batch size: a batch of 4 with share 0.1 loses a sample in two of five steps. If the
    masked samples are an even whole number, as in the released recipe (6 of 24), every batch loses exactly that many.

    Args:
        rgb_B3HW: normalised image.
        dsm_B1HW: scaled DSM.
        config: how much to hide.
        generator: CPU generator, in the same state on every rank.
        rank: index of the part of the batch that is given, 0..world_size - 1.
        world_size: number of ranks that share the batch, in equal parts.
        paired_B: bool, whether a given sample has both modalities, on the device of the image; a sample that has one
            only keeps it. None: all samples have both.

    Returns:
        Image and DSM, with hidden values: copies, or the inputs themselves if no sample is masked.
    """
    own, _, height, width = rgb_B3HW.shape
    batch = own * world_size
    order = torch.randperm(batch, generator=generator).tolist()
    draw_count, draw_odd = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    count = math.floor(batch * config.share + draw_count)
    of_image = (count + (draw_odd < 0.5)) // 2  # the odd sample loses either modality with the same probability
    if not count:
        return rgb_B3HW, dsm_B1HW
    rgb_B3HW, dsm_B1HW = rgb_B3HW.clone(), dsm_B1HW.clone()
    for place, sample in enumerate(order[:count]):
        rows, columns = _region(height, width, config, generator)
        if sample // own == rank:
            own_sample = sample % own
            hidden_CHW = (rgb_B3HW if place < of_image else dsm_B1HW)[own_sample, :, rows, columns]
            if paired_B is None:
                hidden_CHW.fill_(HIDDEN)
            else:
                hidden_CHW.masked_fill_(paired_B[own_sample], HIDDEN)
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
