"""The configuration of the network, one frozen dataclass. Defaults are those of the paper (arXiv 2603.17705)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Modality = Literal["rgb", "dsm"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MoBaNetConfig:
    """The layers to build.

    Raises:
        ValueError: a value is out of range; the message starts with the name of the field.
    """

    backbone: str = "vit_large_patch14_dinov2"  # timm name of a model of a supported family (model/backbone.py)
    backbone_args: dict[str, Any] = field(default_factory=dict)  # further keyword arguments for timm, e.g. patch_size
    num_classes: int = 6  # >= 2
    image_bands: int = 3  # >= 1; other than 3: the image gets its own trainable patch embedding, as the DSM does
    tap_indices: tuple[int, ...] | None = None  # four blocks, 0-based; None: evenly spaced, as in the paper
    modalities: tuple[Modality, ...] = ("rgb", "dsm")  # only one: a single-modality baseline
    cpia: Literal["residual", "adapter", "none"] = "residual"  # how prompts are injected
    cpia_ratio: float = 0.25  # bottleneck width of CPIA and DGFM (at most 0.125) / backbone width, (0, 1]
    dgfm: bool = True  # False: plain mean of the modalities
    aux_heads: bool = True  # one auxiliary head per modality, used in training only
    decoder_channels: int = 64  # width of UPerNet, >= 1
    finetune: bool = False  # True: the backbone is trained too

    def __post_init__(self) -> None:
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities is {list(self.modalities)}; expected rgb, dsm or both, each once")
        if not 0 < self.cpia_ratio <= 1:
            raise ValueError(f"cpia_ratio is {self.cpia_ratio}; expected a share in (0, 1]")
        if self.decoder_channels < 1:
            raise ValueError(f"decoder_channels is {self.decoder_channels}; expected 1 or more")
        if self.num_classes < 2:
            raise ValueError(f"num_classes is {self.num_classes}; expected 2 or more")
        if self.image_bands < 1:
            raise ValueError(f"image_bands is {self.image_bands}; expected 1 or more")
        taps = self.tap_indices
        if taps is not None and (len(taps) != 4 or list(taps) != sorted(set(taps)) or taps[0] < 0):
            raise ValueError(
                f"tap_indices is {list(taps)}; expected four increasing block numbers, the first 0 or more"
            )

    def taps(self, depth: int) -> tuple[int, ...]:
        """Indices of the four tapped blocks of a backbone with `depth` blocks, 0-based.

        Raises:
            ValueError: a tap lies beyond the last block, or `depth` is less than four.
        """
        taps = self.tap_indices or tuple(depth * stage // 4 - 1 for stage in (1, 2, 3, 4))
        if taps[0] < 0 or taps[-1] >= depth:
            raise ValueError(f"tap_indices is {list(taps)}; {self.backbone} has the blocks 0 to {depth - 1}")
        return taps
