"""MoBaNet: one frozen vision transformer under two streams, image and DSM. Tensors in, tensors out.

Knows torch and timm, nothing of files, tracking or orchestration. Source of the method: arXiv 2603.17705.
"""

from model.config import MoBaNetConfig
from model.losses import segmentation_loss
from model.masking import MaskingConfig, mask_modalities
from model.mobanet import MoBaNet, MoBaNetOutput

__all__ = ["MaskingConfig", "MoBaNet", "MoBaNetConfig", "MoBaNetOutput", "mask_modalities", "segmentation_loss"]
