"""MoBaNet: semantic segmentation of an image and a DSM, with one frozen vision transformer for both streams.

The package takes and returns tensors. It depends on torch and timm, not on files, tracking or orchestration.
Method: arXiv 2603.17705.
"""

from model.config import MoBaNetConfig
from model.losses import segmentation_loss
from model.masking import MaskingConfig, mask_modalities
from model.mobanet import MoBaNet, MoBaNetOutput

__all__ = ["MaskingConfig", "MoBaNet", "MoBaNetConfig", "MoBaNetOutput", "mask_modalities", "segmentation_loss"]
