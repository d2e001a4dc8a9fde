"""Section `evaluate` of params.yaml: windows, pictures, intervals and degraded inputs.

In: a mapping from params.yaml. Out: checked values.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from components.common.params import STRICT, Count, Probability, Side


@checked_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class IntervalsConfig:
    """Confidence intervals of the scores: a bootstrap over square blocks of the tiles."""

    samples: Annotated[int, Field(ge=100, le=100_000)] = 1000  # number of resamples
    level: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95  # probability that an interval contains the true value
    block_px: Side = 256  # side of a block, pixels


@checked_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class EvaluateConfig:
    """Section `evaluate` of params.yaml."""

    window_px: Side | None  # side of a window; None: the training's window
    stride_px: Side  # step between windows, up to the window; smaller is slower and smoother
    batch_size: Count  # windows per forward pass
    failure_probability: Probability  # p of the expected mIoU: probability that a sensor fails
    panel_px: Annotated[int, Field(ge=64, le=2048)]  # longest side of a picture, pixels
    robustness: bool = False  # also score degraded inputs
    intervals: IntervalsConfig = IntervalsConfig()  # bootstrap over blocks of the tiles

    def __post_init__(self) -> None:
        if self.window_px is not None and self.stride_px > self.window_px:
            raise ValueError(
                f"stride_px is {self.stride_px}; expected evaluate.window_px or less, which is {self.window_px}, so "
                "that windows leave no gaps"
            )
