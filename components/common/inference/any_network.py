"""What scoring needs of a network, so that an exported file can be scored like the network it was made of.

`MoBaNet` is one; `components/common/predictors/scored.py` makes one of a predictor of any format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from model import MoBaNetConfig


class AnyNetwork(Protocol):
    """A network that turns normalised inputs into logits."""

    config: MoBaNetConfig

    @property
    def patch_size(self) -> int:
        """Side of a patch, pixels; sides of an input are multiples of it."""

    @property
    def __call__(self) -> Callable[..., Any]:
        """Logits `[B, K, H, W]`; inputs and missing values as in `MoBaNet.forward`."""

    def forward_with_gates(self, rgb: Tensor | None, dsm: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Logits `[B, K, H, W]` and the gate of every stage; called only if `config` has gates."""
