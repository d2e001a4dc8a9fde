"""Convert stored pixels to network inputs: normalised image and heights, sides padded to whole patches.

NaN means "not measured" or "hidden", in both inputs; the network decides what an absent value becomes.

Letters: B batch, H W pixels, C image bands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(
    image_BCHW: Tensor, dsm_B1HW: Tensor, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Normalise the image; NaN stays NaN.

    Args:
        image_BCHW: values 0..255 of any numeric dtype.
        dsm_B1HW: scaled heights.
        mean: mean of each band of the image divided by 255.
        std: standard deviation of each band of the image divided by 255.

    Returns:
        float32 image `[B, C, H, W]` with a mean of about 0 and a standard deviation of about 1, and float32 DSM
        `[B, 1, H, W]`.
    """
    return normalise_image(image_BCHW, mean, std), dsm_B1HW.float()


def normalise_image(image_BCHW: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The image of `normalise` alone, for inputs without a DSM."""
    shape = (1, -1, 1, 1)
    on_cpu = (torch.tensor(values, dtype=torch.float32).reshape(shape) for values in (mean, std))
    mean_1C11, std_1C11 = (values.to(image_BCHW.device, non_blocking=True) for values in on_cpu)
    return (image_BCHW.float() / 255 - mean_1C11) / std_1C11


def pad_to_multiple(x_BCHW: Tensor, multiple: int, value: float = math.nan) -> Tensor:
    """Pad the bottom and the right with `value` until both sides are multiples of `multiple` pixels.

    Raises:
        ValueError: `value` is NaN, which whole numbers cannot represent, and `x_BCHW` has a whole-number type.
    """
    if math.isnan(value) and not x_BCHW.is_floating_point():
        raise ValueError(f"the padding is NaN, which {x_BCHW.dtype} cannot represent; give a value")
    height, width = x_BCHW.shape[-2:]
    return F.pad(x_BCHW, (0, -width % multiple, 0, -height % multiple), value=value)


def padded_side(side_px: int, multiple: int) -> int:
    """Side of a square input after padding, pixels."""
    return side_px + -side_px % multiple
