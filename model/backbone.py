"""Build the vision transformer that both streams share, chosen by its timm name.

In: a configuration. Out: a `ViT` with random weights and without a classifier.
To add a family, write a subclass of `ViT` and register it in `FAMILIES`.
"""

from __future__ import annotations

import timm
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_sam import VisionTransformerSAM

from model.config import MoBaNetConfig
from model.plain_vit import PlainViT
from model.rotary_vit import RotaryViT
from model.vit import ViT
from model.windowed_vit import WindowedViT

FAMILIES: dict[type, type[ViT]] = {
    VisionTransformer: PlainViT,  # DINOv2, CLIP, SigLIP, ...
    Eva: RotaryViT,  # DINOv3
    VisionTransformerSAM: WindowedViT,
}
"""timm's class -> our class. Subclasses of timm's classes are excluded: they add layers that our classes do not run."""


def build_backbone(config: MoBaNetConfig) -> ViT:
    """Build the backbone that `config` names, with random weights.

    Raises:
        ValueError: timm has no model of this name, timm rejects an argument, or no family supports the model.
    """
    name = config.backbone
    if not timm.is_model(name):
        raise ValueError(f"backbone is {name!r}; timm has no model of this name; see `mobanet model list`")
    try:
        vit = timm.create_model(name, pretrained=False, num_classes=0, **config.backbone_args)
    except Exception as error:  # timm raises many types for arguments that do not fit
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0][:200]
        raise ValueError(f"backbone_args is {config.backbone_args}; timm's {name} rejects it: {reason}") from None
    if type(vit) not in FAMILIES:
        known = ", ".join(family.__name__ for family in FAMILIES)
        raise ValueError(f"backbone is {name!r}, a {type(vit).__name__}; expected one of {known}: `mobanet model list`")
    if not vit.blocks:
        raise ValueError(f"backbone_args is {config.backbone_args}; expected a depth of 4 or more")
    if 0 in vit.patch_embed.grid_size:  # type: ignore[operator, union-attr]  # all families have patches
        raise ValueError(f"backbone_args is {config.backbone_args}; expected an img_size of patch_size or more")
    return FAMILIES[type(vit)](vit)
