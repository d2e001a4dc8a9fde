"""The complete network: (image, DSM) -> logits. Either of the two may be missing, completely or in part.

A value that is missing is NaN; `None` says that the whole batch lacks a sensor. What the network does then is set by
`missing` in its configuration.

Letters: B batch, K classes, H W pixels (multiples of the patch size; the caller pads).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.conditional_norm import CONDITIONS, Condition, ConditionalBatchNorm2d, Conditions, Norm
from model.config import MoBaNetConfig, Modality
from model.encoder import STAGE_CHANNELS, Encoder, Stage
from model.presence import Presence, without_nan
from model.upernet import AuxiliaryHead, UPerNet


@dataclass(frozen=True, slots=True)
class MoBaNetOutput:
    """Logits `[B, K, H, W]` of the fused and the auxiliary heads.

    None for a head that the network does not have, and for that of a stream that did not run.
    """

    logits: Tensor
    aux_rgb: Tensor | None
    aux_dsm: Tensor | None


class MoBaNet(nn.Module):
    """The network of arXiv 2603.17705; `MoBaNetConfig` switches its modules on and off."""

    def __init__(self, config: MoBaNetConfig) -> None:
        """Build the network with random weights; load pretrained backbone weights into `encoder.backbone` afterwards.

        Raises:
            ValueError: the backbone or its taps cannot be built from this configuration.
        """
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        fusing = len(config.modalities) == 2  # a network for one sensor knows one condition and always runs its stream
        self.excludes = fusing and config.missing == "excluded"
        self.conditional = fusing and config.batch_norm == "per-condition"
        norm: Norm = ConditionalBatchNorm2d if self.conditional else nn.BatchNorm2d
        self.decoder = UPerNet(STAGE_CHANNELS, config.decoder_channels, config.num_classes, norm)
        heads = config.modalities if config.aux_heads else ()
        self.aux = nn.ModuleDict({m: AuxiliaryHead(STAGE_CHANNELS, config.num_classes, norm) for m in heads})

    @property
    def patch_size(self) -> int:
        """Side of a patch, pixels; height and width of an input must be multiples of it."""
        return self.encoder.backbone.patch_size

    def forward(self, rgb: Tensor | None, dsm: Tensor | None) -> Tensor:
        """Logits `[B, K, H, W]` of the fused head, float32.

        With `missing: zero`, a missing value becomes 0 after normalisation, as in benchmarks of missing modalities.
        With `missing: excluded`, prompts and gates leave out the patches that have no value of a sensor, and the
        stream of a sensor that is None does not run. Where a patch has no value of either, `Presence` decides. If
        nothing is missing, both settings compute the same numbers.

        In evaluation, a sample that is NaN everywhere in an input has the logits that None gives, except for rounding.

        Args:
            rgb: image `[B, bands, H, W]`, normalised as in training, NaN where missing; None: all of it is missing.
            dsm: heights `[B, 1, H, W]`, scaled as in training, NaN where missing; None: all of it is missing.

        Raises:
            ValueError: both inputs are missing, or height or width is not a multiple of the patch size.
        """
        stages, size = self._encode(rgb, dsm)
        return self._decode(stages, size, self._conditions(rgb, dsm))

    def forward_with_aux(self, rgb: Tensor | None, dsm: Tensor | None) -> MoBaNetOutput:
        """Logits of the fused head and of the auxiliary heads.

        Image `[B, bands, H, W]`, heights `[B, 1, H, W]` and errors are those of `forward`.
        """
        stages, size = self._encode(rgb, dsm)
        given = self._conditions(rgb, dsm)
        streams = stages[0].modality_BChw if self.aux else {}
        aux: dict[Modality, Tensor] = {m: self.aux[m](maps, size, given) for m, maps in streams.items()}
        return MoBaNetOutput(self._decode(stages, size, given), aux.get("rgb"), aux.get("dsm"))

    def forward_with_gates(self, rgb: Tensor | None, dsm: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Logits as in `forward`, and the gate of every stage, `[B, C, h, w]`, 0..1, 1 = image only.

        A cell of a gate is a patch. With `missing: excluded`, it is 1 or 0 where one sensor is absent. The list is
        empty without DGFM. Arguments and errors as in `forward`.
        """
        stages, size = self._encode(rgb, dsm)
        gates = [stage.gate_BChw for stage in stages if stage.gate_BChw is not None]
        return self._decode(stages, size, self._conditions(rgb, dsm)), gates

    def no_weight_decay(self) -> set[str]:
        """Patterns of the names of weights that have several dimensions but no weight decay, as timm lists them.

        They are the class token, registers and position embedding of the backbone, and the scales and shifts of CPIA,
        which are one-dimensional in the released code. Weights of one dimension, such as biases, are not listed.
        """
        backbone = {f"encoder.backbone.vit.{name}" for name in self.encoder.backbone.vit.no_weight_decay()}
        return backbone | {"encoder.cpia.*.gamma_MC", "encoder.cpia.*.beta_MC"}

    def _encode(self, rgb: Tensor | None, dsm: Tensor | None) -> tuple[list[Stage], tuple[int, int]]:
        given = rgb if rgb is not None else dsm
        if given is None:
            raise ValueError("rgb and dsm are both missing; give at least one")
        batch, _, height, width = given.shape
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(f"input is {height} x {width} px (h x w); pad both to multiples of {self.patch_size}")
        presence = None
        if self.excludes and rgb is not None and dsm is not None:
            presence = Presence.of(rgb, dsm, self.patch_size)
        rgb, dsm = (None if pixels is None else without_nan(pixels) for pixels in (rgb, dsm))
        if not self.excludes:
            rgb = given.new_zeros(batch, self.config.image_bands, height, width) if rgb is None else rgb
            dsm = given.new_zeros(batch, 1, height, width) if dsm is None else dsm
        return self.encoder(rgb, dsm, presence), (height, width)

    def _conditions(self, rgb: Tensor | None, dsm: Tensor | None) -> Conditions:
        """The statistics to use: in evaluation those of each sample, because a NaN input is as good as none."""
        if rgb is not None and dsm is not None and self.conditional and not self.training:
            return conditions_of(rgb, dsm)
        return condition(rgb, dsm)

    def _decode(self, stages: list[Stage], size: tuple[int, int], given: Conditions) -> Tensor:
        logits: Tensor = self.decoder([stage.fused_BChw for stage in stages], size, given)
        return logits


def condition(rgb: Tensor | None, dsm: Tensor | None) -> Condition:
    """The condition of a forward pass: which of its inputs `[B, bands, H, W]` and `[B, 1, H, W]` are given."""
    if rgb is None:
        return "dsm"
    return "rgb" if dsm is None else "both"


def conditions_of(rgb: Tensor, dsm: Tensor) -> Tensor:
    """The condition of every sample, `[B]`, as its index in `CONDITIONS`: which of its two inputs have a value."""
    has_rgb, has_dsm = ((~torch.isnan(x)).float().flatten(1).amax(1) > 0 for x in (rgb, dsm))
    only_rgb, only_dsm = has_rgb & ~has_dsm, has_dsm & ~has_rgb
    return CONDITIONS.index("rgb") * only_rgb.long() + CONDITIONS.index("dsm") * only_dsm.long()


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Number of weights of a module."""

    total: int
    trainable: int


def count_parameters(network: MoBaNet) -> dict[str, ParameterCount]:
    """Count the weights of the complete network (key "network") and of each of its parts."""
    encoder = network.encoder
    parts: dict[str, nn.Module | None] = {
        "network": network,
        "backbone": encoder.backbone,
        "dsm_patch_embedding": encoder.dsm_patch_embedding,
        "image_patch_embedding": encoder.image_patch_embedding,
        "cpia": encoder.cpia,
        "dgfm": encoder.dgfm,
        "norms": encoder.norms,
        "projections": encoder.projections,
        "decoder": network.decoder,
        "aux_heads": network.aux,
    }
    return {name: _count(part) for name, part in parts.items() if part is not None}


def _count(module: nn.Module) -> ParameterCount:
    sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return ParameterCount(sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained))


def on_meta(config: MoBaNetConfig) -> MoBaNet:
    """Build the network on the meta device: weights have names and shapes, but no memory."""
    with torch.device("meta"):
        return MoBaNet(config)
