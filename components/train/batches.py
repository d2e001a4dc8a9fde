"""Convert batches of crops to network inputs: copied to the device, normalised, masked, padded, and with copies.

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
from components.train.copies import has_copies, make_copies, ramp
from components.train.crops import Batch
from model import mask_modalities
from model.config import Modality
from model.inputs import normalise, pad_to_multiple
from model.losses import IGNORE_INDEX
from model.training_loss import Copies


@dataclass(frozen=True, slots=True)
class Inputs:
    """One batch on the device; height and width are multiples of the patch size."""

    rgb_B3HW: Tensor  # normalised image; NaN where masked, padded or absent
    dsm_B1HW: Tensor  # scaled heights; NaN where masked, padded or not measured
    target_BHW: Tensor  # int64, 255 = ignore
    copies: Copies | None = None  # crops of this batch with one sensor only

    @property
    def tensors(self) -> Iterator[Tensor]:
        """All tensors."""
        yield from (self.rgb_B3HW, self.dsm_B1HW, self.target_BHW)
        for of_sensor in self.copies or ():
            yield from (tensor for tensor in of_sensor if tensor is not None)


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

    A crop whose tile has one sensor only is not masked. If it lacks every sensor of the network, its labels are
    ignored. A single-modality network has no masks and no copies, because nothing is left of its crops without their
    only sensor.

    Args:
        batch: this rank's part of the batch.
        step: optimiser step; it determines the masks, and whether there are copies.
        config: section `train`.
        windows: mean and standard deviation of the image, and the patch size.
        device: device of the network.
        rank: index of this rank, 0..world_size - 1.
        world_size: number of ranks that share the batch.
        modalities: modalities of the network.
    """
    image, dsm, label, has_image_B = (tensor.to(device, non_blocking=True) for tensor in batch.tensors)
    has_dsm_B = ~dsm.isnan().flatten(1).all(1)
    rgb, dsm = normalise(image, dsm, windows.image_mean, windows.image_std)
    if not batch.has_image_B.all():  # on the host, so nothing waits for the device
        rgb = rgb.masked_fill(~has_image_B[:, None, None, None], torch.nan)
    present = {"rgb": has_image_B, "dsm": has_dsm_B}
    usable_B = torch.stack([present[modality] for modality in modalities]).any(0)
    patch = windows.patch_size
    target = pad_to_multiple(label[:, None], patch, IGNORE_INDEX)[:, 0].long()
    target = target.masked_fill(~usable_B[:, None, None], IGNORE_INDEX)
    complete = pad_to_multiple(rgb, patch), pad_to_multiple(dsm, patch)
    if len(modalities) < 2:
        return Inputs(*complete, target)
    copies = None
    if has_copies(step, config):
        copies = make_copies(*complete, target, has_image_B, has_dsm_B, config, rank, world_size)
    generator = torch.Generator().manual_seed(step_seed(config, step))
    masking, paired_B = config.masking.at(ramp(step, config)), has_image_B & has_dsm_B
    rgb, dsm = mask_modalities(rgb, dsm, masking, generator, rank=rank, world_size=world_size, paired_B=paired_B)
    return Inputs(pad_to_multiple(rgb, patch), pad_to_multiple(dsm, patch), target, copies)


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
    for tensor in inputs.tensors:
        tensor.record_stream(current)
    return inputs
