"""Small networks with a backbone of each family, every weight of which matters."""

from __future__ import annotations

import dataclasses

import torch

from model import MoBaNet, MoBaNetConfig
from model.speed import SpeedConfig

SMALL = {"embed_dim": 64, "depth": 4, "num_heads": 4, "patch_size": 8, "img_size": 64}
WINDOWS = {"window_size": 3, "global_attn_indexes": (1, 3)}  # 3 does not divide 8 patches, so windows are padded
TOYS = {
    "vit_tiny_patch16_224": SMALL,  # class token with a position
    "vit_small_patch14_reg4_dinov2": SMALL,  # registers without
    "vit_medium_patch16_gap_240": SMALL,  # neither
    "vit_betwixt_patch16_reg4_gap_256": SMALL,  # no final norm: timm has one for the classifier only
    "vit_small_patch16_dinov3": SMALL,  # from here on timm resamples as we do, so any grid can be compared
    "vit_small_plus_patch16_dinov3_qkvb": SMALL,  # with biases and a gated MLP
    "vit_base_patch16_sapiens2": SMALL | {"num_kv_heads": 2},
    "samvit_base_patch16": SMALL | WINDOWS,
    "samvit_base_patch16_224": SMALL | WINDOWS,  # no absolute positions
}
ONE_OF_EACH_FAMILY = ("vit_tiny_patch16_224", "vit_small_patch16_dinov3", "samvit_base_patch16")
OFF = SpeedConfig(**{field.name: False for field in dataclasses.fields(SpeedConfig)})


def randomise(module):
    """Change every weight, including positions and biases, which timm initialises at or near zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)


def toy(name, **changes):
    """A network with a toy backbone of this name, in evaluation mode."""
    torch.manual_seed(0)
    network = MoBaNet(MoBaNetConfig(backbone=name, backbone_args=TOYS[name], decoder_channels=16, **changes))
    randomise(network)
    return network.eval()


def inputs(size=(64, 64)):
    """Image and DSM of two samples."""
    torch.manual_seed(3)
    return torch.randn(2, 3, *size), torch.randn(2, 1, *size)


def distinguishing(**changes):
    """A network that excludes absent sensors and has other statistics, and visible gates, for every condition."""
    network = toy("vit_tiny_patch16_224", missing="excluded", batch_norm="per-condition", **changes)
    with torch.no_grad():
        for name, value in network.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(std=0.3)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name.endswith("num_batches_tracked"):
                value.fill_(1)
    return network
