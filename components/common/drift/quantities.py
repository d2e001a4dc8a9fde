"""What is counted in the windows of a raster under a model: classes, confidence, entropy, bands, heights, sensors.

In: pixels of a window and the logits of the model. Out: one histogram per quantity, in fine bins. The reference groups
fine bins into coarse ones with about equally many pixels, so nothing depends on a guess of the range of values.
Letters: K classes, C image bands, H W pixels of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.common.inference.modelfile import ModelFacts, condition_of, temperature_of

Counts = npt.NDArray[np.int64]

IMAGE, DSM = 1, 2
"""Bits of `WindowPixels.sensors_HW`."""

SENSORS = ("image", "DSM", "image and DSM")
"""Names of the values 1, 2 and 3 of `WindowPixels.sensors_HW`."""

LEVELS = 1000
"""Fine bins of confidence, entropy and heights; trained networks are confident, so that many pixels are close to 1."""


@dataclass(frozen=True, slots=True)
class WindowPixels:
    """A window in the model's input space."""

    image_HWC: npt.NDArray[np.uint8]
    dsm_HW: npt.NDArray[np.float32]  # scaled heights; NaN = not measured
    sensors_HW: npt.NDArray[np.uint8]  # 0 no class, 1 image, 2 DSM, 3 both


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that is counted per pixel."""

    title: str
    bins: int  # fine bins
    ordered: bool  # whether neighbouring bins hold similar values
    labels: tuple[str, ...] = ()  # of the bins, if they are not ordered


def quantities(facts: ModelFacts) -> dict[str, Quantity]:
    """Name -> quantity, for all that a model can be watched by."""
    sensors = facts.network.modalities
    found = {
        "classes": Quantity("Class shares", len(facts.classes), False, facts.classes),
        "confidence": Quantity("Confidence", LEVELS, True),
        "entropy": Quantity("Entropy", LEVELS, True),
    }
    if "rgb" in sensors:
        found |= {f"band_{name}": Quantity(f"Band {name}", 256, True) for name in facts.bands}
    if "dsm" in sensors:
        found["height"] = Quantity("Height", LEVELS, True)
    if len(sensors) > 1:
        found["sensors"] = Quantity("Sensor coverage", len(SENSORS), False, SENSORS)
    return found


def counted(window: WindowPixels, logits_KHW: Tensor, facts: ModelFacts) -> dict[str, Counts]:
    """Histogram of every quantity over the pixels of a window that get a class.

    Args:
        window: the pixels.
        logits_KHW: logits of the model for them, not yet divided by its temperature.
        facts: facts of the model.
    """
    there_HW = window.sensors_HW > 0
    image_HW, dsm_HW = window.sensors_HW & IMAGE > 0, window.sensors_HW & DSM > 0
    temperature = temperature_of(facts, condition_of(facts, image=bool(image_HW.any()), dsm=bool(dsm_HW.any())))
    classes_HW, confidence_HW, entropy_HW = _scores(logits_KHW.float().cpu(), temperature)
    low, high = facts.heights.clip
    known = quantities(facts)
    bins: dict[str, npt.NDArray[np.intp]] = {
        "classes": classes_HW[there_HW],
        "confidence": _levels(confidence_HW[there_HW]),
        "entropy": _levels(entropy_HW[there_HW]),
        "height": _levels((window.dsm_HW[dsm_HW] - low) / (high - low)),
        "sensors": window.sensors_HW[there_HW].astype(np.intp) - 1,
    }
    bins |= {f"band_{name}": window.image_HWC[image_HW, i].astype(np.intp) for i, name in enumerate(facts.bands)}
    return {name: np.bincount(bins[name], minlength=quantity.bins) for name, quantity in known.items()}


def _scores(
    logits_KHW: Tensor, temperature: float | None
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Class, its probability 0..1, and entropy as a share of the largest one 0..1, each `[H, W]`."""
    scaled_KHW = logits_KHW if temperature is None else logits_KHW / temperature
    probabilities_KHW = scaled_KHW.softmax(0)
    confidence_HW, classes_HW = probabilities_KHW.max(0)
    entropy_HW = torch.special.entr(probabilities_KHW).sum(0) / log(max(2, len(logits_KHW)))
    return classes_HW.numpy().astype(np.intp), confidence_HW.numpy(), entropy_HW.numpy()


def _levels(shares: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Fine bins of values 0..1."""
    return (shares * LEVELS).astype(np.intp).clip(0, LEVELS - 1)
