"""Inputs and networks with a known output per pixel, for tests of positions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from components.common.predictors.predictor import Maps, ModelIdentity
from model import MoBaNetConfig
from tests.components.conftest import toy_facts

NO_CLASS = 255
CLASSES = 6
IDENTITY = ModelIdentity("model.safetensors", None, "0" * 64)
FACTS = toy_facts(MoBaNetConfig(backbone="test_vit", backbone_args={"patch_size": 8, "img_size": 64}))


@dataclass(frozen=True)
class KnownPatch:
    """The fields of `Patch`."""

    image_HWC: np.ndarray
    dsm_HW: np.ndarray
    sensors_HW: np.ndarray


class ArrayInputs:
    """`Inputs` of arrays in memory, reflected beyond their edges."""

    def __init__(self, image_HWC, dsm_HW=None, sensors_HW=None) -> None:
        self.height_px, self.width_px = image_HWC.shape[:2]
        self._image_HWC = image_HWC
        shape = image_HWC.shape[:2]
        self._dsm_HW = np.full(shape, np.nan, np.float32) if dsm_HW is None else dsm_HW
        seen = np.where(np.isnan(self._dsm_HW), 1, 3).astype(np.uint8)
        self._sensors_HW = seen if sensors_HW is None else sensors_HW

    def read(self, rows, columns):
        at = np.ix_(reflected(rows, self.height_px), reflected(columns, self.width_px))
        return KnownPatch(self._image_HWC[at], self._dsm_HW[at], self._sensors_HW[at])


def reflected(pixels: slice, size: int) -> np.ndarray:
    """Indices within a side of `size` pixels, mirrored at its first and last pixel."""
    period = max(1, 2 * (size - 1))
    index = np.arange(pixels.start, pixels.stop) % period
    return np.minimum(index, period - index) if size > 1 else np.zeros_like(index)


def noise(height_px: int, width_px: int, seed: int = 0) -> ArrayInputs:
    """Random pixels and heights, with holes in the DSM."""
    rng = np.random.default_rng(seed)
    dsm_HW = rng.uniform(-0.5, 2, (height_px, width_px)).astype(np.float32)
    dsm_HW[rng.random(dsm_HW.shape) < 0.2] = np.nan
    return ArrayInputs(rng.integers(0, 256, (height_px, width_px, 3)).astype(np.uint8), dsm_HW)


def class_of(image_HWC) -> np.ndarray:
    """The class that `KnownPredictor` gives a pixel: red plus twice green, modulo 6."""
    red, green = image_HWC[..., 0].astype(int), image_HWC[..., 1].astype(int)
    return ((red + 2 * green) % CLASSES).astype(np.uint8)


class KnownPredictor:
    """A network whose class of a pixel is `class_of` its image, and class 0 where the image is missing."""

    def __init__(self, window_px: int = 32, facts=FACTS, has_gates: bool = False) -> None:
        self.facts, self.identity, self.device = replace(facts, window_px=window_px), IDENTITY, torch.device("cpu")
        self.window_px, self.patch_size, self.fixed_window, self.has_gates = window_px, 1, False, has_gates
        self.by_condition, self.precision = False, "float32"
        self.batches: list[torch.Tensor] = []  # the images that it got

    def __call__(self, image_BCHW, dsm_B1HW):
        self.batches.append(image_BCHW)
        red, green = image_BCHW.nan_to_num()[:, :2].long().unbind(1)
        logits_BKHW = 8 * F.one_hot((red + 2 * green) % CLASSES, CLASSES).movedim(-1, 1).float()
        gates_B1HW = torch.isnan(dsm_B1HW).float() if self.has_gates else None
        return Maps(logits_BKHW, gates_B1HW)
