"""What every trained network is to the steps that use it, whatever its format is.

In: pixels of windows. Out: logits. Missing values are handled as in an exported graph: they are NaN, or the tensor of a
sensor that no window of a batch has is None.
Letters: B batch, K classes, C image bands, H W pixels of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from components.common.exported.graph_layout import Computed
from components.common.inference.modelfile import ModelFacts


@dataclass(frozen=True, slots=True)
class Maps:
    """Result of one forward pass, on the device."""

    logits_BKHW: Tensor
    gates_B1HW: Tensor | None  # mean over stages and channels, 0 DSM only .. 1 image only; None: no gates


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model made a map; without paths, so that a map does not depend on them."""

    name: str  # model.safetensors, model.onnx or models:/NAME/VERSION
    version: str | None  # of a registered model
    sha256: str  # of the file


class Predictor(Protocol):
    """A trained network on its device."""

    facts: ModelFacts
    identity: ModelIdentity
    device: torch.device
    window_px: int  # side of a window, whole patches
    patch_size: int  # side of a patch, pixels
    fixed_window: bool  # whether no other window is possible
    has_gates: bool
    by_condition: bool  # whether a batch must not mix windows with different sensors, and None replaces a missing one

    @property
    def precision(self) -> Computed:
        """Precision of the computation; of an exported file, that of its weights."""

    def __call__(self, image_BCHW: Tensor | None, dsm_B1HW: Tensor | None) -> Maps:
        """Logits of a batch of windows; the network's modalities decide which inputs are used.

        Args:
            image_BCHW: float32, 0..255; NaN: missing; None: missing in all windows.
            dsm_B1HW: float32, scaled heights; NaN: missing; None: missing in all windows.
        """
