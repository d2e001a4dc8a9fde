"""Section `register` of params.yaml: name of the registered model, and the limits of the promotion gates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from components.common.params import STRICT, Points

ModelName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9._-]{1,200}$",
        description="at most 200 letters, digits, dots, dashes and underscores",
    ),
]

Limit = Annotated[float, Field(gt=0, le=1e9)]


@checked_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class RegisterConfig:
    """Section `register` of params.yaml. The environment variable `MLFLOW_TRACKING_URI` sets the registry."""

    model_name: ModelName  # name of the registered model
    promote: bool  # False: a version that passes every gate stays the challenger
    min_expected_miou: Points  # E(p) that every champion must reach, also the first one, percentage points
    max_fused_drop: Points  # how far the mIoU with both sensors may be below the champion's, percentage points
    max_class_drop: Points  # the same for the IoU of every class, percentage points
    max_sensor_drop: Points  # the same for the mIoU with one sensor alone, percentage points
    max_latency_ms: Limit | None  # of the exported graph, one window on one CPU thread; None: no limit
    max_size_mb: Limit | None  # of the exported graph with its weights, megabytes; None: no limit
    require_clean_commit: bool  # False: code with changes that are not committed may make a champion
    on_tie: Literal["keep", "promote"]  # which model becomes champion if E(p) is equal, or differs within its noise
