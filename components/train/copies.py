"""Copies of crops that have one sensor only: in which steps, of which crops, and their tensors.

In: the normalised crops of this rank, before MCRM hides anything. Out: `Copies` for `TrainingLoss`. The loss of copies
teaches the network to work with either sensor alone. All choices are functions of the step and of the place of a crop
in the batch, so a resumed run and any number of ranks train with the same copies. Only the crop that replaces one
without the sensor is taken from the same rank.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from components.common.errors import ParamsError
from components.train.config import TrainConfig
from model.losses import IGNORE_INDEX
from model.training_loss import Copies, SensorCopies

Places = list[int]


def ramp(step: int, config: TrainConfig) -> float:
    """Factor of the shares of masks and copies in a step, counted from 1: 0..1, as `train.masking.schedule` says."""
    start, rise = (part * config.steps for part in config.masking.schedule)
    if step - 1 >= start + rise:
        return 1.0
    return _risen(step, start, rise) - _risen(step - 1, start, rise)


def has_copies(step: int, config: TrainConfig) -> bool:
    """Whether a step has copies.

    A step has all of its copies or none, so that shapes stay the same; while the share rises, more and more steps do.
    """
    start, rise = (part * config.steps for part in config.masking.schedule)
    if step - 1 >= start + rise:
        return True
    return math.floor(_risen(step, start, rise)) > math.floor(_risen(step - 1, start, rise))


def _risen(step: int, start: float, rise: float) -> float:
    """Sum of the factors of all steps up to this one: the area under 0, a line from `start` on, and 1 after `rise`."""
    since = max(0.0, step - start)
    return since**2 / (2 * rise) if since < rise else since - rise / 2


def places(copies: int, batch_size: int) -> tuple[Places, Places]:
    """Which crops of a batch have a copy with the image, and which with the DSM.

    Equal parts of the batch have equal numbers of both if `copies` is a multiple of the number of parts. Up to half of
    the crops, no crop has both copies; beyond that, every crop has one at least.

    Args:
        copies: copies of each sensor, 0..`batch_size`.
        batch_size: crops in the batch of all ranks.
    """
    few = 2 * copies <= batch_size
    chosen = 2 * copies if few else 2 * (batch_size - copies)  # crops with one copy, of either sensor in turn
    image: Places = []
    heights: Places = []
    for crop in range(batch_size):
        before, after = crop * chosen // batch_size, (crop + 1) * chosen // batch_size
        with_image = after > before and before % 2 == 0
        with_heights = after > before and before % 2 == 1
        if with_image if few else not with_heights:
            image.append(crop)
        if with_heights if few else not with_image:
            heights.append(crop)
    return image, heights


def require_copies_per_rank(config: TrainConfig, ranks: int) -> None:
    """Check that every rank gets as many copies as any other.

    Raises:
        ParamsError: the copies of a sensor are no multiple of the ranks, or are fewer than two per rank.
    """
    copies = config.masking.copies(config.batch_size)
    if copies % ranks or 0 < copies < 2 * ranks:
        raise ParamsError(
            f"train.masking.paired is {config.masking.paired:g}, which makes {copies} copies of each sensor in a batch "
            f"of {config.batch_size}; expected a multiple of the {ranks} ranks, and at least two copies per rank, "
            "because BatchNorm needs two"
        )


def make_copies(
    rgb_B3HW: Tensor,
    dsm_B1HW: Tensor,
    target_BHW: Tensor,
    has_image_B: Tensor,
    has_dsm_B: Tensor,
    config: TrainConfig,
    rank: int = 0,
    world_size: int = 1,
) -> Copies | None:
    """The copies of this rank's crops, in order; None if the batch has none.

    Args:
        rgb_B3HW: normalised image of this rank's crops, unmasked and padded.
        dsm_B1HW: scaled heights, unmasked and padded.
        target_BHW: int64 labels, 255 = ignore; all of a copy without its sensor are ignored.
        has_image_B: bool, which crops have an image, on the device of the crops.
        has_dsm_B: bool, which crops have heights.
        config: section `train`.
        rank: index of this rank, 0..world_size - 1.
        world_size: number of ranks that share the batch.
    """
    own = len(target_BHW)
    copies = config.masking.copies(own * world_size)
    if not copies:
        return None
    first = rank * own

    def of(values_BCHW: Tensor, present_B: Tensor, chosen: Places) -> SensorCopies:
        values_BCHW = filled(values_BCHW, present_B)
        known_BHW = target_BHW.masked_fill(~present_B[:, None, None], IGNORE_INDEX)
        mine = [crop - first for crop in chosen if first <= crop < first + own]
        if len(mine) == own:
            return SensorCopies(values_BCHW, known_BHW, None)
        places_N = torch.tensor(mine).to(values_BCHW.device, non_blocking=True)
        return SensorCopies(values_BCHW.index_select(0, places_N), known_BHW.index_select(0, places_N), places_N)

    of_image, of_heights = places(copies, own * world_size)
    return Copies(of(rgb_B3HW, has_image_B, of_image), of(dsm_B1HW, has_dsm_B, of_heights))


def filled(values_BCHW: Tensor, present_B: Tensor) -> Tensor:
    """The crops, with those that lack the sensor replaced by a crop of the same rank that has it.

    Their labels are ignored, but a blank crop would enter the statistics of the sensor's batch norms.
    """
    index_B = torch.arange(len(present_B), device=present_B.device)
    latest_B = torch.where(present_B, index_B, -1).cummax(0).values
    first = present_B.int().argmax()
    return values_BCHW.index_select(0, torch.where(latest_B < 0, first, latest_B))
