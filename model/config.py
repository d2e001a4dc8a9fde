"""The configuration of the network, frozen dataclasses. Defaults are those of the paper (arXiv 2603.17705)."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Modality = Literal["rgb", "dsm"]
Block = Annotated[int, Field(ge=0, le=1000)]
Taps = Annotated[tuple[Block, ...], Field(min_length=4, max_length=4)]

LARGEST = 65_536
"""Largest number in `backbone_args`; with larger ones timm would compute or allocate without end."""

RESERVED = {
    **dict.fromkeys(("checkpoint_path", "pretrained", "cache_dir"), "set model.weights"),
    **dict.fromkeys(("pretrained_cfg", "pretrained_cfg_overlay"), "set model.backbone"),
    **dict.fromkeys(("in_chans", "num_classes"), "the data decide it"),
    **dict.fromkeys(("features_only", "out_indices"), "set model.tap_indices"),
    **dict.fromkeys(("global_pool", "fc_norm", "pool_include_prefix", "drop_rate"), "the classifier is not used"),
    **dict.fromkeys(("scriptable", "exportable", "no_jit", "fused_attn"), "it has no effect here"),
}
"""Arguments of timm that would have no effect, or set what another parameter sets -> what to do instead."""

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""Configuration of the dataclasses that users fill in: no conversions, no unknown keys, finite numbers."""


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class NetworkOptions:
    """The layers that a user chooses.

    Raises:
        ValueError: a value is out of range; the message names the field.
    """

    backbone: Annotated[str, Field(min_length=1)] = "vit_large_patch14_dinov2"  # timm name, see model/backbone.py
    backbone_args: dict[str, Any] = field(default_factory=dict)  # further keyword arguments for timm, e.g. patch_size
    tap_indices: Taps | None = None  # 0-based; None: evenly spaced, as in the paper
    modalities: tuple[Modality, ...] = ("rgb", "dsm")  # only one: a single-modality baseline
    cpia: Literal["residual", "adapter", "none"] = "residual"  # how prompts are injected
    cpia_ratio: Annotated[float, Field(gt=0, le=1)] = 0.25  # bottleneck of CPIA and DGFM (at most 0.125) / width
    dgfm: bool = True  # False: plain mean of the modalities
    aux_heads: bool = True  # one auxiliary head per modality, used in training only
    missing: Literal["zero", "excluded"] = "zero"  # an absent sensor: 0 (released code), or left out of CPIA and DGFM
    batch_norm: Literal["shared", "per-condition"] = "shared"  # statistics of the decoder per combination of sensors
    decoder_channels: Annotated[int, Field(ge=1, le=4096)] = 64  # width of UPerNet
    finetune: bool = False  # True: the backbone is trained too

    def __post_init__(self) -> None:
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities is {list(self.modalities)}; expected rgb, dsm or both, each once")
        if self.tap_indices is not None and list(self.tap_indices) != sorted(set(self.tap_indices)):
            raise ValueError(f"tap_indices is {list(self.tap_indices)}; expected four increasing block numbers")
        for name, value in self.backbone_args.items():
            if name in RESERVED:
                raise ValueError(f"backbone_args.{name} is {value!r}; remove it: {RESERVED[name]}")
            if isinstance(value, int | float) and not -LARGEST <= value <= LARGEST:
                raise ValueError(f"backbone_args.{name} is {value!r}; expected a number from {-LARGEST} to {LARGEST}")

    def taps(self, depth: int) -> tuple[int, ...]:
        """Indices of the four tapped blocks of a backbone with `depth` blocks, 0-based.

        Raises:
            ValueError: a tap lies beyond the last block, or `depth` is less than four.
        """
        taps = self.tap_indices or tuple(depth * stage // 4 - 1 for stage in (1, 2, 3, 4))
        if taps[0] < 0 or taps[-1] >= depth:
            raise ValueError(f"tap_indices is {list(taps)}; {self.backbone} has the blocks 0 to {depth - 1}")
        return taps


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class MoBaNetConfig(NetworkOptions):
    """The complete network: the options, and what the data decide."""

    num_classes: Annotated[int, Field(ge=2, le=255)] = 6
    image_bands: Annotated[int, Field(ge=1, le=1024)] = (
        3  # other than 3: the image gets its own trainable patch embedding
    )
