"""Which sensors an input has, so that every step runs a network on it in the same way.

In: normalised inputs, in which NaN means "not measured". Out: None for a sensor without any value. A network that
excludes absent sensors, or has statistics per condition, then computes such an input as in training and evaluation.
Letters: B batch, C image bands, H W pixels of a window.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model import MoBaNetConfig

Given = tuple[Tensor | None, Tensor | None]
"""Image `[B, C, H, W]` and heights `[B, 1, H, W]`; None: no sample has the sensor."""


def runs_by_condition(config: MoBaNetConfig) -> bool:
    """Whether a network computes an input without one of its sensors in another way than one that has it."""
    return len(config.modalities) == 2 and (config.missing == "excluded" or config.batch_norm == "per-condition")


def measured(image_BCHW: Tensor | None, dsm_B1HW: Tensor | None, config: MoBaNetConfig) -> Given:
    """Replace a sensor without any value by None, and one that the network does not use. It waits for a GPU.

    All samples of a batch must have the same sensors. If no sensor of the network has a value, all of them are kept.

    Args:
        image_BCHW: the image; NaN = not measured; None: not given.
        dsm_B1HW: the heights; NaN = not measured; None: not given.
        config: of the network.
    """
    inputs = {"rgb": image_BCHW, "dsm": dsm_B1HW}
    used = {name: x for name in config.modalities if (x := inputs[name]) is not None}
    found = {name: x for name, x in used.items() if not bool(x.isnan().all())} or used
    return found.get("rgb"), found.get("dsm")


def both_given(image_BCHW: Tensor | None, dsm_B1HW: Tensor | None, bands: int) -> tuple[Tensor, Tensor]:
    """Replace None by NaN, for a model in another format, which has no optional inputs.

    Raises:
        ValueError: both are None.
    """
    given = image_BCHW if image_BCHW is not None else dsm_B1HW
    if given is None:
        raise ValueError("image and DSM are both missing; give at least one")
    samples, _, height, width = given.shape
    image, dsm = (
        torch.full((samples, channels, height, width), torch.nan) if x is None else x
        for x, channels in ((image_BCHW, bands), (dsm_B1HW, 1))
    )
    return image, dsm
