"""Every choice that shapes the network, in one frozen record. Defaults are the paper's (arXiv 2603.17705)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Modality = Literal["rgb", "dsm"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MoBaNetConfig:
    """What to build. Checked on creation; a wrong value raises ValueError with a sentence that starts with its name."""

    backbone: str = "vit_large_patch14_dinov2"  # by its timm name, of a family in model/backbone.py
    backbone_args: dict[str, Any] = field(default_factory=dict)  # keywords for timm on top of the name, e.g. patch_size
    num_classes: int = 6
    image_bands: int = 3  # other than 3: the image gets a trainable patch embedding, as the DSM has
    tap_indices: tuple[int, ...] | None = None  # four blocks, 0-based; None: evenly spread, as in the paper
    modalities: tuple[Modality, ...] = ("rgb", "dsm")  # one alone: a single-modality baseline
    cpia: Literal["residual", "adapter", "none"] = "residual"  # how prompts are injected
    cpia_ratio: float = 0.25  # bottleneck of CPIA and (at most 0.125) of DGFM, share of the width, (0, 1]
    dgfm: bool = True  # False: plain average of the modalities
    aux_heads: bool = True  # one auxiliary head per modality, for training
    decoder_channels: int = 64  # width of UPerNet
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
            raise ValueError(f"tap_indices is {list(taps)}; expected four rising block numbers, the first 0 or more")

    def taps(self, depth: int) -> tuple[int, ...]:
        """The four tapped blocks of a backbone of `depth` blocks.

        Raises:
            ValueError: a chosen tap lies beyond the last block, or the depth is under four.
        """
        taps = self.tap_indices or tuple(depth * stage // 4 - 1 for stage in (1, 2, 3, 4))
        if taps[0] < 0 or taps[-1] >= depth:
            raise ValueError(f"tap_indices is {list(taps)}; {self.backbone} has the blocks 0 to {depth - 1}")
        return taps
