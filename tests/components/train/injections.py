"""A toy training in which one value becomes NaN or infinite at a step, as by a broken device: it happens only once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file
from torch import nn

from components.common.errors import NonFiniteError
from components.train import loop, optim
from tests.ranks import on_ranks

KINDS = ("loss", "gradient", "weight", "statistic")


@dataclass
class Injection:
    """Which value becomes what, at which step, on which rank."""

    kind: str
    step: int
    value: float = math.nan
    rank: int = 0
    seen: list[int] = field(default_factory=list)  # the steps that the run took

    @contextmanager
    def active(self) -> Iterator[None]:
        """Trainings in the block meet this value."""
        step, mean = loop._step, optim.mean_loss
        make: dict[str, Callable[[nn.Module], Any]] = {
            "weight": self._weight,
            "statistic": self._statistic,
            "logit": self._logit,
        }

        def counted(session, inputs, number):
            self.seen.append(number)
            hit = number == self.step and session.ranks.rank == self.rank
            loss = (lambda *args: mean(*args) * self.value) if hit and self.kind == "loss" else mean
            weight = session.network.decoder.classifier[1].weight
            hook = weight.register_hook(
                lambda gradient: gradient + (self.value if hit and self.kind == "gradient" else 0.0)
            )
            with mock.patch.object(optim, "mean_loss", loss):
                figures = step(session, inputs, number)
            hook.remove()
            if hit and self.kind in make:
                make[self.kind](session.network)
            return figures

        with mock.patch.object(loop, "_step", counted):
            yield

    def _weight(self, network: nn.Module) -> None:
        with torch.no_grad():
            network.decoder.classifier[1].weight.view(-1)[5] = self.value

    def _logit(self, network: nn.Module) -> None:
        """Weights that are finite, with which logits are not; the value of the injection is not used."""
        with torch.no_grad():
            network.decoder.classifier[1].weight.fill_(3e38)

    def _statistic(self, network: nn.Module) -> None:
        next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d)).running_var[1] = self.value


def outcome(train: Callable[[], Any]) -> tuple[int, str]:
    """Exit code and sentence of a training."""
    try:
        train()
    except NonFiniteError as error:
        return error.exit_code, str(error)
    return 0, ""


def outcomes(ranks: int, injection: Injection, train: Callable[[], Any]) -> list[tuple[int, str, list[int]]]:
    """Exit code, sentence and steps of every rank of a training with an injection."""

    def work() -> tuple[int, str, list[int]]:
        with injection.active():
            return *outcome(train), injection.seen

    return on_ranks(ranks, work)


def newest_checkpoint(folder: Path) -> tuple[int, dict[str, torch.Tensor]]:
    """Step and tensors of the newest checkpoint."""
    path = max(folder.glob("step-*.safetensors"))
    return int(path.stem.removeprefix("step-")), load_file(path)
