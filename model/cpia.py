"""CPIA, the Cross-modal Prompt-Injected Adapter: both streams produce one prompt, each adds it with its own scale.

In and out: patch tokens of all modalities, `[M, B, N, C]`, or of the one that is present.
Source: arXiv 2603.17705; tests/model/test_reference.py tests agreement with the released code.
Letters: M modalities (1 or 2), B batch, N patch tokens, C width, h bottleneck.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.dropout import Dropout

ADAPTER_RATIO = 1 / 16
"""Bottleneck width of the adapter injection / backbone width."""


class CPIA(nn.Module):
    """A prompt shared by all modalities, injected by `residual` addition or through a bottleneck `adapter`."""

    def __init__(self, width: int, modalities: int, ratio: float, inject: Literal["residual", "adapter"]) -> None:
        """Build the module for tokens of `width` channels; its bottleneck has `ratio * width` channels."""
        super().__init__()
        bottleneck = int(width * ratio)
        self.down = nn.ModuleList(nn.Linear(width, bottleneck) for _ in range(modalities))
        self.mix = nn.Linear(modalities * bottleneck, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        self.gamma_MC = nn.Parameter(torch.empty(modalities, width).normal_(1.0, 0.02))
        self.beta_MC = nn.Parameter(torch.empty(modalities, width).normal_(0.0, 0.02))
        self.adapter = PromptAdapter(width) if inject == "adapter" else None

    def forward(self, tokens_MBNC: Tensor, present_MBN1: Tensor | None = None, only: int | None = None) -> Tensor:
        """Inject the prompt: `[M, B, N, C]` -> `[M, B, N, C]`, dtype unchanged.

        An absent token contributes nothing to the prompt: its summary is 0, without the bias of `down`. It gets the
        prompt itself, as every token does, so its stream knows what the other sensor sees there.

        Args:
            tokens_MBNC: patch tokens.
            present_MBN1: which tokens are present, bool; None: all.
            only: index of the single modality that `tokens_MBNC` has, M = 1; None: it has all modalities.
        """
        given = slice(None) if only is None else slice(only, only + 1)
        summaries_BNh = [down(tokens) for down, tokens in zip(self.down[given], tokens_MBNC, strict=True)]
        if present_MBN1 is not None:
            summaries_BNh = [torch.where(on, x, 0.0) for on, x in zip(present_MBN1, summaries_BNh, strict=True)]
        shared_BNC = self.up(self._mixed(torch.cat(summaries_BNh, dim=-1), only))
        own_MBNC = shared_BNC * self.gamma_MC[given, None, None] + self.beta_MC[given, None, None]
        prompt_MBNC = shared_BNC + own_MBNC
        change_MBNC: Tensor = prompt_MBNC if self.adapter is None else self.adapter(tokens_MBNC, prompt_MBNC)
        return tokens_MBNC + change_MBNC.to(tokens_MBNC.dtype)  # keeps bf16 tokens in bf16

    def _mixed(self, summaries_BNh: Tensor, only: int | None) -> Tensor:
        """Mix the summaries of all modalities; the summary of `only` one, as if the others were 0."""
        if only is None:
            mixed: Tensor = self.mix(summaries_BNh)
            return mixed
        width = self.mix.out_features
        return F.linear(summaries_BNh, self.mix.weight[:, only * width : (only + 1) * width], self.mix.bias)


class PromptAdapter(nn.Module):
    """Bottleneck on the tokens and their prompt. Its output starts at zero, so the block starts as the identity."""

    def __init__(self, width: int) -> None:
        """Build the adapter for tokens of `width` channels."""
        super().__init__()
        bottleneck = max(1, int(width * ADAPTER_RATIO))
        self.down_token = nn.Linear(width, bottleneck)
        self.down_prompt = nn.Linear(width, bottleneck)
        self.dropout = Dropout(0.1, batch_dim=1)
        self.up = nn.Linear(bottleneck, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens_MBNC: Tensor, prompt_MBNC: Tensor) -> Tensor:
        """The change to add to the tokens, `[M, B, N, C]`."""
        hidden = torch.relu(self.down_token(tokens_MBNC) + self.down_prompt(prompt_MBNC))
        change_MBNC: Tensor = self.up(self.dropout(hidden))
        return change_MBNC
