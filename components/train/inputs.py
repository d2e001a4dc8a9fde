"""Crops as stored -> what the network takes: on the device, normalised, masked, padded; on a GPU one batch ahead.

In: batches of the loader, in pinned memory where there is a GPU. Out: one `Inputs` per optimiser step, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from components.common.inference.windows import Windows
from components.train.config import TrainConfig
from components.train.data import Batch
from model import mask_modalities
from model.inputs import normalise, pad_to_multiple
from model.losses import IGNORE


@dataclass(frozen=True, slots=True)
class Inputs:
    """One batch on the device; sides are multiples of the patch size."""

    rgb_B3HW: Tensor  # normalised, 0 where hidden
    dsm_B1HW: Tensor  # scaled, 0 where hidden or not measured
    target_BHW: Tensor  # int64, 255 = ignore


def step_seed(config: TrainConfig, step: int) -> int:
    """Seed of everything random in a step; a function of the step, so that a resumed run repeats nothing else."""
    return config.seed * 1_000_000_007 + step


def make_inputs(
    batch: Batch,
    step: int,
    config: TrainConfig,
    windows: Windows,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
) -> Inputs:
    """Prepare part `rank` of `world_size` of the batch of one step, on the device's current stream.

    The CPU does not wait for it.
    """
    image, dsm, label = (x.to(device, non_blocking=True) for x in (batch.image_BCHW, batch.dsm_B1HW, batch.label_BHW))
    rgb, dsm = normalise(image, dsm, windows.image_mean, windows.image_std)
    generator = torch.Generator().manual_seed(step_seed(config, step))
    rgb, dsm = mask_modalities(rgb, dsm, config.masking, generator, rank=rank, world_size=world_size)
    patch = windows.patch_size
    target = pad_to_multiple(label[:, None], patch, IGNORE)[:, 0].long()
    return Inputs(pad_to_multiple(rgb, patch), pad_to_multiple(dsm, patch), target)


def one_ahead(batches: Iterable[Batch], make: Callable[[Batch, int], Inputs], first_step: int) -> Iterator[Inputs]:
    """Make the inputs of each step while the step before is computed: on a stream of its own of the current GPU.

    Args:
        batches: of the steps from `first_step` on.
        make: (batch, step) -> inputs.
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
    """Let the computing stream wait for the inputs, and the allocator for the computing stream."""
    current = torch.cuda.current_stream()
    current.wait_event(ready)
    for tensor in (inputs.rgb_B3HW, inputs.dsm_B1HW, inputs.target_BHW):
        tensor.record_stream(current)
    return inputs
