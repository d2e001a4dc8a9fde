"""Settings of the heights, and their record in the manifest; `components.common.data.height_scaling` scales them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from components.common.data.datasets import DsmInfo
from components.common.data.height_scaling import Histogram
from components.common.data.store import HeightMethod, Heights
from components.common.params import STRICT

Percentile = Annotated[float, Field(ge=0, le=100)]


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class HeightsConfig:
    """Part `heights` of section `preprocess`."""

    method: HeightMethod  # what the heights are relative to
    ground_radius_m: Annotated[float, Field(gt=0, le=1000)]  # above-ground: how far to look for ground, metres
    scale_m: Annotated[float, Field(ge=1e-3, le=1e5)]  # above-ground: metres that become 1.0
    percentiles: tuple[Percentile, Percentile]  # the others: heights that become 0.0 and 1.0, percent, ascending
    clip: tuple[float, float]  # limits of a scaled height, ascending

    def __post_init__(self) -> None:
        """Check the order of the numbers."""
        for key in ("percentiles", "clip"):
            low, high = getattr(self, key)
            if low >= high:
                raise ValueError(f"{key} is {[low, high]}; expected two ascending numbers")


def as_recorded(config: HeightsConfig, dsm: DsmInfo, training: Histogram | None) -> Heights:
    """The scaling as the manifest records it.

    Args:
        config: the settings.
        dsm: what the heights of the files are; in a DSM that is relative to the ground no ground is looked for.
        training: heights of the training tiles; needed by the method `training-range` alone.
    """
    offset_m: float | None = None
    scale_m: float | None = None
    if config.method == "above-ground":
        offset_m, scale_m = 0.0, config.scale_m
    elif training is not None:
        offset_m, scale_m = training.offset_and_scale(config.percentiles)
    search = config.method == "above-ground" and dsm.relative_to == "datum"
    return Heights(
        method=config.method,
        offset_m=offset_m,
        scale_m=scale_m,
        ground_radius_m=config.ground_radius_m if search else None,
        percentiles=config.percentiles if offset_m is None else None,
        clip=config.clip,
        relative_to=dsm.relative_to,
    )
