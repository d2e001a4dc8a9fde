"""Section `export` of params.yaml: formats of a package, and how closely they must agree with the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from components.common.params import STRICT, Points

Format = Literal["onnx", "onnx-float16", "onnx-int8", "qgis", "pt2"]
"""Files that a package may have next to `model.safetensors`."""

Output = Literal["logits", "classes", "confidence"]


@checked_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class ExportConfig:
    """Section `export` of params.yaml."""

    formats: tuple[Format, ...]  # files next to model.safetensors
    required: tuple[Format, ...]  # one of these that differs from the network stops the step
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)]  # of onnx and pt2
    opset: Annotated[int, Field(ge=18, le=23)]  # ONNX operator set; older runtimes may need a lower one
    tolerance: Annotated[float, Field(gt=0, le=1e6)]  # largest absolute difference of logits, network - float32 format
    max_changed: Points  # share of pixels with another class than the network's, float32 formats, percent
    max_changed_reduced: Points  # the same for float16 and int8
    signing_key: Path | None  # PEM file of the private key; None: the environment variable, if set

    def __post_init__(self) -> None:
        if lacking := [name for name in self.required if name not in self.formats]:
            raise ValueError(f"required contains {lacking[0]}; expected formats of export.formats only")
        for name in ("formats", "required", "outputs"):
            values = getattr(self, name)
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"{name} contains {twice[0]} twice; expected it once")
