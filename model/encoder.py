"""The encoder: image and DSM pass through one frozen ViT and are fused at four stages.

In: image and DSM, `[B, bands, H, W]` and `[B, 1, H, W]`, without NaN. Out: one `Stage` per tap, maps of 256 channels
with one cell per patch. A modality that the whole batch lacks may be left out; its stream does not run.
Letters: M modalities, B batch, N patch tokens, T prefix and patch tokens, C width, h w patches per column and row.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.backbone import build_backbone
from model.config import MoBaNetConfig, Modality
from model.cpia import CPIA
from model.dgfm import DGFM
from model.presence import Presence

STAGE_CHANNELS = 256
"""Channels of the maps that the decoder and the auxiliary heads get."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The maps of one tap."""

    fused_BChw: Tensor  # 256 channels
    modality_BChw: dict[Modality, Tensor]  # each stream that ran, same projection, 256 channels; first stage only
    gate_BChw: Tensor | None  # as many channels as the backbone, 0..1, 1 = image only; None without DGFM


class Encoder(nn.Module):
    """The backbone with patch embeddings, prompts, gates and projections."""

    def __init__(self, config: MoBaNetConfig) -> None:
        """Build the modules that `config` enables.

        Raises:
            ValueError: the backbone or its taps cannot be built.
        """
        super().__init__()
        self.modalities = config.modalities
        self.backbone = build_backbone(config)
        self.taps = config.taps(self.backbone.depth)
        self.backbone.requires_grad_(config.finetune)
        self.finetune = config.finetune
        width, fusing = self.backbone.width, len(config.modalities) == 2
        # The DSM stream has a trainable copy of the patch embedding, because heights differ from colours.
        self.dsm_patch_embedding = copy.deepcopy(self.backbone.patch_embedding) if "dsm" in config.modalities else None
        # An image of other than three bands has one too, because the frozen embedding expects red, green and blue.
        other_bands = config.image_bands != 3 and "rgb" in config.modalities
        self.image_patch_embedding = (
            for_bands(self.backbone.patch_embedding, config.image_bands) if other_bands else None
        )
        for trainable in (self.dsm_patch_embedding, self.image_patch_embedding):
            if trainable is not None:
                trainable.requires_grad_(True)
        if other_bands or "rgb" not in config.modalities:  # no stream uses the backbone's own embedding
            self.backbone.patch_embedding.requires_grad_(False)
        stages = range(len(self.taps))
        self.cpia = nn.ModuleList(
            CPIA(width, len(config.modalities), config.cpia_ratio, config.cpia) for _ in stages if config.cpia != "none"
        )
        self.dgfm = nn.ModuleList(DGFM(width, config.cpia_ratio) for _ in stages if config.dgfm and fusing)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-5) for _ in stages)
        self.projections = nn.ModuleList(nn.Conv2d(width, STAGE_CHANNELS, 1, bias=False) for _ in stages)

    def reset_patch_embeddings(self) -> None:
        """Initialise the trainable patch embeddings from the backbone's; call it after loading backbone weights."""
        frozen = self.backbone.patch_embedding
        if self.dsm_patch_embedding is not None:
            self.dsm_patch_embedding.load_state_dict(frozen.state_dict())
        if self.image_patch_embedding is not None:
            bands = self.image_patch_embedding.in_channels
            self.image_patch_embedding.load_state_dict(for_bands(frozen, bands).state_dict())

    def train(self, mode: bool = True) -> Encoder:
        """Set the mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if not self.finetune:
            self.backbone.eval()
        return self

    def forward(
        self, image_BCHW: Tensor | None, dsm_B1HW: Tensor | None, presence: Presence | None = None
    ) -> list[Stage]:
        """Compute the four stages; a modality that is not in the configuration is ignored.

        Args:
            image_BCHW: normalised image without NaN; None: the stream does not run.
            dsm_B1HW: scaled heights without NaN; None: the stream does not run.
            presence: which patches prompts and gates leave out; None: none.
        """
        patches = {"rgb": self._embed_image, "dsm": self._embed_dsm}
        inputs = {"rgb": image_BCHW, "dsm": dsm_B1HW}
        given = {m: pixels for m in self.modalities if (pixels := inputs[m]) is not None}
        modalities = tuple(given)
        streams = [patches[m](pixels) for m, pixels in given.items()]
        grid = (streams[0].shape[-2], streams[0].shape[-1])
        # Without prompts, the streams meet only in the fusion. If only the DSM stream trains, they run apart, and the
        # image stream has no backward pass.
        apart = self.training and len(self.cpia) == 0 and len({stream.requires_grad for stream in streams}) == 2
        streams = streams if apart else [torch.cat(streams)]
        streams = [self.backbone.tokens(stream) for stream in streams]
        stages, first = [], 0
        for index, tap in enumerate(self.taps):
            if self.cpia:
                streams = [self._prompt(index, tokens, modalities, presence) for tokens in streams]
            streams = [self.backbone.run(tokens, grid, first, tap) for tokens in streams]
            features = torch.cat([self._features(tokens) for tokens in streams])
            stages.append(self._stage(index, features.transpose(1, 2).unflatten(2, grid), modalities, presence))
            first = tap + 1
        return stages

    def _prompt(
        self, index: int, tokens: Tensor, modalities: tuple[Modality, ...], presence: Presence | None
    ) -> Tensor:
        prefix = self.backbone.num_prefix_tokens
        present = None if presence is None else presence.tokens_MBN1(modalities)
        only = None if modalities == self.modalities else self.modalities.index(modalities[0])
        prompted = self.cpia[index](tokens[:, prefix:].unflatten(0, (len(modalities), -1)), present, only)
        return torch.cat([tokens[:, :prefix], prompted.flatten(0, 1)], dim=1)

    def _features(self, tokens: Tensor) -> Tensor:
        # The norm applies to the features only; the next blocks get the sequence without it. Autocast computes norms in
        # float32, so the features are cast back to the dtype of the sequence.
        return self.backbone.norm(tokens)[:, self.backbone.num_prefix_tokens :].to(tokens.dtype)

    def _stage(
        self, index: int, features: Tensor, modalities: tuple[Modality, ...], presence: Presence | None
    ) -> Stage:
        # unbind, because chunk would fix the batch size in an exported graph
        streams = features.unflatten(0, (len(modalities), -1)).unbind(0)
        by_modality = dict(zip(modalities, streams, strict=True))
        fused, gate = self._fuse(index, by_modality, presence)
        fused = self.norms[index](fused.movedim(1, -1)).movedim(-1, 1)
        project = self.projections[index]
        return Stage(project(fused), {m: project(x) for m, x in by_modality.items()} if index == 0 else {}, gate)

    def _fuse(
        self, index: int, by_modality: dict[Modality, Tensor], presence: Presence | None
    ) -> tuple[Tensor, Tensor | None]:
        """Fused features of the streams that ran, and the gate."""
        if len(by_modality) == 1:
            ((modality, fused),) = by_modality.items()
            share = fused.new_full((1, 1, 1, 1), float(modality == "rgb"))
            return fused, share.expand_as(fused) if self.dgfm else None
        rgb, dsm = by_modality["rgb"], by_modality["dsm"]
        if self.dgfm:
            fused, gate = self.dgfm[index](rgb, dsm, presence)
            return fused, gate
        fused = torch.stack(list(by_modality.values())).mean(0)
        if presence is not None:
            fused = torch.where(presence.only_rgb_B1hw, rgb, torch.where(presence.only_dsm_B1hw, dsm, fused))
        return fused, None

    def _embed_image(self, image_BCHW: Tensor) -> Tensor:
        embedded: Tensor = (self.image_patch_embedding or self.backbone.patch_embedding)(image_BCHW)
        return embedded

    def _embed_dsm(self, dsm_B1HW: Tensor) -> Tensor:
        assert self.dsm_patch_embedding is not None
        embedded: Tensor = self.dsm_patch_embedding(dsm_B1HW.expand(-1, 3, -1, -1))
        return embedded


def for_bands(embedding: nn.Conv2d, bands: int) -> nn.Conv2d:
    """Derive a patch embedding for `bands` bands from one for red, green and blue.

    With three or more bands, the first three get the weights of red, green and blue, and further bands get their mean.
    With one or two bands, all get the mean. Weights are scaled by `3 / bands`, so a grey image has the same embedding
    as before.
    """
    made = nn.Conv2d(
        bands,
        embedding.out_channels,
        embedding.kernel_size,  # type: ignore[arg-type]  # mypy does not know that it has two elements
        embedding.stride,  # type: ignore[arg-type]
        bias=embedding.bias is not None,
        device=embedding.weight.device,
    )
    weight_C3hw = embedding.weight.detach()
    own = weight_C3hw if bands >= 3 else weight_C3hw[:, :0]
    grey = weight_C3hw.mean(1, keepdim=True).expand(-1, bands - own.shape[1], -1, -1)
    with torch.no_grad():
        made.weight.copy_(torch.cat([own, grey], dim=1) * 3 / bands)
        if embedding.bias is not None and made.bias is not None:
            made.bias.copy_(embedding.bias)
    return made
