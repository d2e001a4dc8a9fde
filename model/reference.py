"""Convert a checkpoint of the released code to our network.

Sizes are inferred from the tensors. Heads, taps and patch size cannot be inferred; the caller passes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from model.config import MoBaNetConfig
from model.mobanet import MoBaNet

RENAMES = [  # regular expression for their name -> our name; the first full match applies
    (r"image_encoder\.backbone\.register_tokens", r"encoder.backbone.vit.reg_token"),
    (r"image_encoder\.backbone\.(.*)\.mlp\.w12\.(.*)", r"encoder.backbone.vit.\1.mlp.fc1.\2"),
    (r"image_encoder\.backbone\.(.*)\.mlp\.w3\.(.*)", r"encoder.backbone.vit.\1.mlp.fc2.\2"),
    (r"image_encoder\.backbone\.(.*)", r"encoder.backbone.vit.\1"),
    (r"image_encoder\.extra_patch_embed\.proj\.(.*)", r"encoder.dsm_patch_embedding.\1"),
    (r"image_encoder\.peft_cpia_blocks\.(\d)\.D_fc1\.(.*)", r"encoder.cpia.\1.down.0.\2"),
    (r"image_encoder\.peft_cpia_blocks\.(\d)\.D_fc2\.(.*)", r"encoder.cpia.\1.down.1.\2"),
    (r"image_encoder\.peft_cpia_blocks\.(\d)\.P_fc2\.(.*)", r"encoder.cpia.\1.mix.\2"),
    (r"image_encoder\.peft_cpia_blocks\.(\d)\.U_fc1\.(.*)", r"encoder.cpia.\1.up.\2"),
    (r"image_encoder\.peft_dgfm_blocks\.(\d)\.(rgb|dsm)_reduce\.(.*)", r"encoder.dgfm.\1.reduce_\2.\3"),
    (r"image_encoder\.peft_dgfm_blocks\.(\d)\.gate_net\.(.*)", r"encoder.dgfm.\1.gate.\2"),
    (r"image_encoder\.peft_fuse_norms\.(.*)", r"encoder.norms.\1"),
    (r"image_encoder\.dual_proj_layers\.(.*)", r"encoder.projections.\1"),
    (r"decoder\.ppm\.stages\.(\d)\.1\.(.*)", r"decoder.pyramid.branches.\1.\2"),
    (r"decoder\.ppm\.bottleneck\.(.*)", r"decoder.pyramid.bottleneck.\1"),
    (r"decoder\.lateral_convs\.(.*)", r"decoder.laterals.\1"),
    (r"decoder\.fpn_convs\.(.*)", r"decoder.smooths.\1"),
    (r"decoder\.fpn_bottleneck\.(.*)", r"decoder.bottleneck.\1"),
    (r"decoder\.classifier\.1\.0\.(.*)", r"decoder.classifier.1.\1"),
    (r"aux_head_(rgb|dsm)\.conv\.(.*)", r"aux.\1.block.\2"),
    (r"aux_head_(rgb|dsm)\.conv_out\.0\.(.*)", r"aux.\1.classifier.\2"),
]
PAIRED = re.compile(r"image_encoder\.peft_cpia_blocks\.(\d)\.tfts_(gamma|beta)_(rgb|dsm)")
"""Scale and shift of the prompt: the released code has one tensor per modality, we have one row per modality."""

UNUSED = "image_encoder.backbone.mask_token"
"""A weight that only DINOv2's pretraining uses."""

WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod)\.)+")
"""Prefixes that DDP and torch.compile add to every name."""


def from_reference(
    state_dict: Mapping[str, Tensor], *, num_heads: int, tap_indices: Sequence[int], patch_size: int = 14
) -> MoBaNet:
    """Build the network of a checkpoint of the released code and load all its weights.

    Args:
        state_dict: tensors under the names of the released code, also with the prefixes of DDP and torch.compile.
        num_heads: number of attention heads of the backbone.
        tap_indices: the four tapped blocks, 0-based.
        patch_size: side of a patch, pixels.

    Raises:
        ValueError: a tensor is missing, unexpected, or its shape does not match the other tensors.
    """
    state = {WRAPPERS.sub("", name): tensor for name, tensor in state_dict.items()}
    try:
        config = _infer_config(state, num_heads, tuple(tap_indices), patch_size)
        renamed = _rename(state)
    except KeyError as error:
        raise ValueError(
            f"reference checkpoint lacks {error.args[0]}; is it a checkpoint of the released code?"
        ) from None
    network = MoBaNet(config)
    try:
        network.load_state_dict(renamed, strict=True)
    except RuntimeError as error:
        raise ValueError(f"reference checkpoint does not fit: {' '.join(str(error).split())}") from None
    return network


def reference_name_to_ours(name: str) -> str:
    """Our name of a weight of the released code.

    Raises:
        KeyError: the released code has no weight of this name.
    """
    for pattern, replacement in RENAMES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    raise KeyError(f"a place for {name}")


def _rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed, pairs = {}, {}
    for name, tensor in state.items():
        if match := PAIRED.fullmatch(name):
            pairs[match.groups()] = tensor
        elif name != UNUSED:
            renamed[reference_name_to_ours(name)] = tensor
    for stage, kind in {key[:2] for key in pairs}:
        renamed[f"encoder.cpia.{stage}.{kind}_MC"] = torch.stack([pairs[stage, kind, m] for m in ("rgb", "dsm")])
    # Our ViT adds positions to patches only, so the position of the class token is added to the token here.
    class_position, positions = renamed["encoder.backbone.vit.pos_embed"].tensor_split([1], dim=1)
    renamed["encoder.backbone.vit.cls_token"] = renamed["encoder.backbone.vit.cls_token"] + class_position
    renamed["encoder.backbone.vit.pos_embed"] = positions
    return renamed


def _infer_config(
    state: Mapping[str, Tensor], num_heads: int, tap_indices: tuple[int, ...], patch_size: int
) -> MoBaNetConfig:
    vit = "image_encoder.backbone."
    width = state[vit + "cls_token"].shape[-1]
    depth = 1 + max(int(m[1]) for name in state if (m := re.match(re.escape(vit) + r"blocks\.(\d+)\.", name)))
    grid = round((state[vit + "pos_embed"].shape[1] - 1) ** 0.5)
    registers = state.get(vit + "register_tokens")
    swiglu = vit + "blocks.0.mlp.w12.weight" in state
    hidden = state[vit + f"blocks.0.mlp.{'w12' if swiglu else 'fc1'}.weight"].shape[0]
    cpia_width = state["image_encoder.peft_cpia_blocks.0.D_fc1.weight"].shape[0]
    return MoBaNetConfig(
        backbone="vit_giant_patch14_dinov2" if swiglu else "vit_small_patch14_dinov2",
        backbone_args={
            "embed_dim": width,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": hidden / width,
            "patch_size": patch_size,
            "img_size": grid * patch_size,
            "init_values": 1.0 if vit + "blocks.0.ls1.gamma" in state else None,
            "reg_tokens": 0 if registers is None else registers.shape[1],
            "no_embed_class": True,
        },
        num_classes=state["decoder.classifier.1.0.weight"].shape[0],
        tap_indices=tap_indices,
        cpia_ratio=cpia_width / width,
        aux_heads="aux_head_rgb.conv.0.weight" in state,
        decoder_channels=state["decoder.classifier.1.0.weight"].shape[1],
    )
