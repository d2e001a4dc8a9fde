"""Stored crops with the logits that a model must give: whoever loads a package can check that it computes as exported.

In: a network and validation tiles; later a network and the file. Out: `crops.safetensors`; later the differences.
Every crop is stored once and computed with both sensors, without the DSM and without the image, in float32 on a CPU.
The file holds the class of every pixel and the logits of every fourth pixel in both directions.
Letters: N crops, K classes, C image bands, H W pixels of a window, h w pixels whose logits are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.common.data.datasets import CONDITIONS
from components.common.data.store import Tile
from components.common.errors import DataError, NonFiniteError, WeightsError
from components.common.files import replacing
from components.common.inference.given_sensors import measured
from components.common.inference.model_inputs import spread_windows
from components.common.inference.modelfile import ModelFacts
from model import MoBaNet
from model.inputs import normalise

FILE = "crops.safetensors"
"""Name of the file in a package."""

COUNT = 3
"""Number of crops."""

STEP = 4
"""The logits of every STEP-th pixel are stored, in both directions."""


@dataclass(frozen=True, slots=True)
class CropResult:
    """How a network differs from the one that was exported, over all crops and conditions."""

    largest_difference: float  # largest absolute difference of logits; infinite if one is not a number
    changed_px: int  # pixels with another class
    total_px: int


def write_crops(path: Path, network: MoBaNet, facts: ModelFacts, tiles: Sequence[Tile]) -> None:
    """Write crops of validation tiles with the logits of the network.

    Args:
        path: file to write.
        network: the network, in evaluation mode, on the CPU.
        facts: facts of the network.
        tiles: tiles in the model's input space, at least one.

    Raises:
        NonFiniteError: a logit is NaN or infinite.
    """
    windows = spread_windows(tiles, facts.window_px, COUNT)
    image_NHWC, dsm_NHW = torch.from_numpy(windows.image_NHWC), torch.from_numpy(windows.dsm_NHW)
    stored = {"image": image_NHWC, "dsm": dsm_NHW}
    for condition in _conditions(network):
        logits_NKHW = _logits(network, facts, image_NHWC, dsm_NHW, condition)
        if not logits_NKHW.isfinite().all():
            raise NonFiniteError(
                f"the network gives logits that are NaN or infinite for a validation tile ({condition}); train again "
                "with a lower train.learning_rate or with train.max_gradient_norm"
            )
        stored[f"logits.{condition}"] = logits_NKHW[..., ::STEP, ::STEP].contiguous()
        stored[f"classes.{condition}"] = logits_NKHW.argmax(1).to(torch.uint8)
    with replacing(path) as draft:
        save_file(stored, draft)


def run_crops(path: Path, network: MoBaNet, facts: ModelFacts) -> CropResult:
    """Compute the stored crops with a network and compare the results with the stored ones.

    Args:
        path: file of `write_crops`.
        network: the network, in evaluation mode and float32, on the CPU.
        facts: facts of the network.

    Raises:
        DataError: the file is missing or damaged, or belongs to another kind of network.
    """
    try:
        stored = load_file(path)
        results = [_compared(network, facts, stored, condition) for condition in _conditions(network)]
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
        raise DataError(
            f"{path}: missing, damaged or of another network, so the model cannot be checked; run the export step again"
        ) from None
    return CropResult(
        max(result.largest_difference for result in results),
        sum(result.changed_px for result in results),
        sum(result.total_px for result in results),
    )


def require_same_logits(path: Path, network: MoBaNet, facts: ModelFacts, tolerance: float, model: str) -> CropResult:
    """Check that this machine computes the stored logits from the stored crops; arguments and errors as `run_crops`.

    Args:
        path: file of `write_crops`.
        network: the network.
        facts: facts of the network.
        tolerance: largest accepted difference of logits, that of the export.
        model: name of the model, for the message.

    Raises:
        WeightsError: a logit differs by more than the tolerance.
    """
    result = run_crops(path, network, facts)
    if not result.largest_difference <= tolerance:
        raise WeightsError(
            f"{model}: the logits of the stored crops differ by {result.largest_difference:.3g} from those of the "
            f"export, more than export.tolerance {tolerance:.3g}, so this model is not used; run export and register "
            "again on this machine, or raise export.tolerance"
        )
    return result


def _compared(network: MoBaNet, facts: ModelFacts, stored: dict[str, Tensor], condition: str) -> CropResult:
    logits_NKHW = _logits(network, facts, stored["image"], stored["dsm"], condition)
    difference_NKhw = (logits_NKHW[..., ::STEP, ::STEP] - stored[f"logits.{condition}"]).abs()
    changed_NHW = logits_NKHW.argmax(1) != stored[f"classes.{condition}"]
    largest = float(np.nan_to_num(float(difference_NKhw.max()), nan=np.inf))
    return CropResult(largest, int(changed_NHW.sum()), changed_NHW.numel())


def _conditions(network: MoBaNet) -> list[str]:
    """The conditions of a network; a network of one sensor has its own only."""
    own = network.config.modalities
    return list(CONDITIONS) if len(own) > 1 else [name for name, sensors in CONDITIONS.items() if sensors == own]


def _logits(network: MoBaNet, facts: ModelFacts, image_NHWC: Tensor, dsm_NHW: Tensor, condition: str) -> Tensor:
    """Logits `[N, K, H, W]` of every crop under one condition."""
    sensors = CONDITIONS[condition]
    rgb_NCHW, dsm_N1HW = normalise(image_NHWC.movedim(-1, 1), dsm_NHW[:, None], facts.image_mean, facts.image_std)
    with torch.inference_mode():
        parts = []
        for i in range(len(image_NHWC)):
            rgb = rgb_NCHW[i : i + 1] if "rgb" in sensors else None
            dsm = dsm_N1HW[i : i + 1] if "dsm" in sensors else None
            parts.append(network(*measured(rgb, dsm, network.config)))
    return torch.cat(parts)
