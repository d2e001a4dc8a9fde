"""Convert batches of crops to network inputs: copied to the device, normalised, masked and padded.

In: batches of the loader, in pinned memory if there is a GPU. Out: one `Inputs` per optimiser step, in order. On a GPU
the next batch is prepared during the current step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from components.common.inference.windows import Windows
from components.train.config import TrainConfig
from components.train.crops import Batch
from model import mask_modalities
from model.config import Modality
from model.inputs import normalise, pad_to_multiple
from model.losses import IGNORE_INDEX


@dataclass(frozen=True, slots=True)
class Inputs:
    """One batch on the device; height and width are multiples of the patch size."""

    rgb_B3HW: Tensor  # normalised image, 0 where masked
    dsm_B1HW: Tensor  # scaled heights, 0 where masked or not measured
    target_BHW: Tensor  # int64, 255 = ignore


def step_seed(config: TrainConfig, step: int) -> int:
    """Seed of masks and dropout in a step: a function of (seed, step), so a resumed run draws the same numbers."""
    return (config.seed * 1_000_000_007 + step) % 2**63


def make_inputs(
    batch: Batch,
    step: int,
    config: TrainConfig,
    windows: Windows,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
    modalities: Sequence[Modality] = ("rgb", "dsm"),
) -> Inputs:
    """Prepare the inputs of one step on the device's current stream, without blocking the CPU.

    MCRM hides one of two modalities, so the inputs of a single-modality network are never masked.

    Args:
        batch: this rank's part of the batch.
        step: optimiser step; it determines the masks.
        config: section `train`.
        windows: mean and standard deviation of the image, and the patch size.
        device: device of the network.
        rank: index of this rank, 0..world_size - 1.
        world_size: number of ranks that share the batch.
        modalities: modalities of the network.
    """
    image, dsm, label = (x.to(device, non_blocking=True) for x in (batch.image_BCHW, batch.dsm_B1HW, batch.label_BHW))
    rgb, dsm = normalise(image, dsm, windows.image_mean, windows.image_std)
    if len(modalities) == 2:
        generator = torch.Generator().manual_seed(step_seed(config, step))
        rgb, dsm = mask_modalities(rgb, dsm, config.masking, generator, rank=rank, world_size=world_size)
    patch = windows.patch_size
    target = pad_to_multiple(label[:, None], patch, IGNORE_INDEX)[:, 0].long()
    return Inputs(pad_to_multiple(rgb, patch), pad_to_multiple(dsm, patch), target)


def one_ahead(batches: Iterable[Batch], make: Callable[[Batch, int], Inputs], first_step: int) -> Iterator[Inputs]:
    """Prepare the inputs of each step during the step before it, on a separate stream of the current GPU.

    Args:
        batches: batches of the steps from `first_step` on.
        make: function (batch, step) -> inputs.
        first_step: step of the first batch.
    """
    side, waiting = torch.cuda.Stream(), None
    for step, batch in enumerate(batches, start=first_step):
        with torch.cuda.stream(side):
            made = make(batch, step), side.record_event()
        if waiting is not None:
            yield _taken_over(*waiting)
        waiting = made
    if waiting is not None:
        yield _taken_over(*waiting)


def _taken_over(inputs: Inputs, ready: torch.cuda.Event) -> Inputs:
    """Make the compute stream wait for the inputs, and keep their memory until the compute stream has used it."""
    current = torch.cuda.current_stream()
    current.wait_event(ready)
    for tensor in (inputs.rgb_B3HW, inputs.dsm_B1HW, inputs.target_BHW):
        tensor.record_stream(current)
    return inputs
