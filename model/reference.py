"""Convert a checkpoint of the released code to our network.

In: tensors under the released names. Out: a network with their weights. Sizes are those of the tensors. The number of
attention heads and the taps leave no trace in them; `PUBLISHED` has those of the published sizes of DINOv2.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import MoBaNetConfig
from model.mobanet import MoBaNet, on_meta

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

OUR_PAIR = re.compile(r"encoder\.cpia\.(\d)\.(gamma|beta)_MC")

BACKBONE = "image_encoder.backbone."

UNUSED = f"{BACKBONE}mask_token"
"""A weight that only DINOv2's pretraining uses."""

POSITIONS = f"{BACKBONE}pos_embed"

COUNTER = ".num_batches_tracked"
"""End of the name of a count that old checkpoints lack; PyTorch fills it in."""

WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod)\.)+")
"""Prefixes that DDP and torch.compile add to every name."""

GROUP = re.compile(r"\([^()]*\)")

MOST_NAMED = 20
"""Most names of tensors that a message lists."""


@dataclass(frozen=True, slots=True)
class Published:
    """What the tensors of a backbone of a published size do not tell."""

    name: str
    num_heads: int
    tap_indices: tuple[int, ...]  # defaults of the released code, 0-based


PUBLISHED = {
    (384, 12): Published("ViT-S", 6, (2, 5, 8, 11)),
    (768, 12): Published("ViT-B", 12, (2, 5, 8, 11)),
    (1024, 24): Published("ViT-L", 16, (5, 11, 17, 23)),
    (1536, 40): Published("ViT-g", 24, (9, 19, 29, 39)),
}
"""Width and number of blocks of a DINOv2 backbone -> its heads and taps."""


def unwrapped(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the prefixes of DDP and torch.compile."""
    return {WRAPPERS.sub("", name): tensor for name, tensor in state_dict.items()}


def backbone_size(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Width and number of blocks of a checkpoint's backbone.

    Raises:
        ValueError: the checkpoint has no class token of the released code, or a gap between its blocks.
    """
    token = state.get(f"{BACKBONE}cls_token")
    if token is None or token.dim() != 3:
        raise ValueError(f"lacks {BACKBONE}cls_token, or it has another shape than [1, 1, C]")
    matches = (re.match(re.escape(BACKBONE) + r"blocks\.(\d{1,4})\.", name) for name in state)
    blocks = {int(match[1]) for match in matches if match}
    if not blocks or blocks != set(range(len(blocks))):
        raise ValueError(f"has the blocks {sorted(blocks)}; expected all numbers from 0")
    return token.shape[-1], len(blocks)


def from_reference(state_dict: Mapping[str, Tensor], *, num_heads: int, tap_indices: Sequence[int]) -> MoBaNet:
    """Build the network of a checkpoint of the released code and load all its weights.

    Names and shapes are compared before the network gets memory.

    Args:
        state_dict: tensors under the names of the released code, also with the prefixes of DDP and torch.compile.
        num_heads: number of attention heads of the backbone.
        tap_indices: the four tapped blocks, 0-based.

    Raises:
        ValueError: a tensor is missing, unexpected, or its shape does not match the other tensors; the message
            continues "the checkpoint ...".
    """
    state = unwrapped(state_dict)
    try:
        config = _infer_config(state, num_heads, tuple(tap_indices))
    except KeyError as error:
        raise ValueError(f"lacks {error.args[0]}") from None
    except (IndexError, ZeroDivisionError):
        raise ValueError("has tensors of impossible shapes") from None
    _compare(state, _expected(on_meta(config), swiglu=f"{BACKBONE}blocks.0.mlp.w12.weight" in state))
    network = MoBaNet(config)
    network.load_state_dict(_rename(state), strict=True)
    return network


def reference_name_to_ours(name: str) -> str:
    """Our name of a weight of the released code.

    Raises:
        KeyError: the released code has no weight of this name.
    """
    for pattern, replacement in RENAMES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    raise KeyError(name)


def our_names_to_reference(name: str, *, swiglu: bool) -> tuple[str, ...]:
    """Names in the released code of one of our weights: two for a weight with one row per modality, else one.

    Args:
        name: name in the `state_dict` of a `MoBaNet`.
        swiglu: whether the backbone has gated MLPs, whose layers the released code calls w12 and w3.

    Raises:
        KeyError: the released code has no such weight.
    """
    if match := OUR_PAIR.fullmatch(name):
        return tuple(f"image_encoder.peft_cpia_blocks.{match[1]}.tfts_{match[2]}_{one}" for one in ("rgb", "dsm"))
    for pattern, replacement in RENAMES:
        if "mlp" in pattern and not swiglu:
            continue
        ours, theirs = _inverse(pattern, replacement)
        if re.fullmatch(ours, name):
            return (re.sub(ours, theirs, name),)
    raise KeyError(name)


def _inverse(pattern: str, replacement: str) -> tuple[str, str]:
    """A rule of `RENAMES` in the other direction."""
    numbers = itertools.count(1)
    theirs = GROUP.sub(lambda _: f"\\{next(numbers)}", pattern).replace(r"\.", ".")
    ours = re.escape(replacement)
    for number, group in enumerate(GROUP.findall(pattern), 1):
        ours = ours.replace(f"\\\\{number}", group)
    return ours, theirs


def _expected(network: MoBaNet, *, swiglu: bool) -> dict[str, tuple[int, ...]]:
    """Name in the released code -> shape, for every weight of a network."""
    expected: dict[str, tuple[int, ...]] = {}
    for name, value in network.state_dict().items():
        theirs = our_names_to_reference(name, swiglu=swiglu)
        expected |= dict.fromkeys(theirs, tuple(value.shape[len(theirs) - 1 :]))
    _, count, width = expected[POSITIONS]
    return expected | {POSITIONS: (1, 1 + count, width)}  # theirs has a position for the class token too


def _compare(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    lacking = [name for name in expected if name not in state and not name.endswith(COUNTER)]
    unknown = [name for name in state if name not in expected and name != UNUSED]
    odd = [
        f"{name} {list(state[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    problems = (("lacks", lacking), ("also contains", unknown), ("has other shapes:", odd))
    if found := [f"{what} {_listed(names)}" for what, names in problems if names]:
        raise ValueError("; it ".join(found))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


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


def _infer_config(state: Mapping[str, Tensor], num_heads: int, tap_indices: tuple[int, ...]) -> MoBaNetConfig:
    width, depth = backbone_size(state)
    patch_size = state[f"{BACKBONE}patch_embed.proj.weight"].shape[-1]
    grid = round((state[POSITIONS].shape[1] - 1) ** 0.5)
    registers = state.get(f"{BACKBONE}register_tokens")
    swiglu = f"{BACKBONE}blocks.0.mlp.w12.weight" in state
    hidden = state[f"{BACKBONE}blocks.0.mlp.{'w12' if swiglu else 'fc1'}.weight"].shape[0]
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
            "init_values": 1.0 if f"{BACKBONE}blocks.0.ls1.gamma" in state else None,
            "reg_tokens": 0 if registers is None else registers.shape[1],
            "no_embed_class": True,
        },
        num_classes=state["decoder.classifier.1.0.weight"].shape[0],
        tap_indices=tap_indices,
        cpia_ratio=cpia_width / width,
        aux_heads="aux_head_rgb.conv.0.weight" in state,
        decoder_channels=state["decoder.classifier.1.0.weight"].shape[1],
    )
