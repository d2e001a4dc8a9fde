"""Stop a training whose loss, gradient, weights, statistics or validation logits are NaN or infinite.

The loss and the gradient norm of a step stay on the device. They are read at log steps and before each validation and
checkpoint, so that no other step waits for the device. Weights, statistics and optimiser state are checked there too.
All ranks get the same answer, so they stop together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from components.common.errors import NonFiniteError
from components.train.checkpoints.checkpoint import Progress, trained_state
from components.train.config import TrainConfig
from components.train.optim import StepFigures
from components.train.ranks.distributed import Ranks
from model.finite import first_non_finite

LARGE = 4.0
"""Weight decays, and weights of the losses of auxiliary heads and copies, above this are a likely cause."""


class RecentSteps:
    """Loss and gradient norm of the steps since the last row of training.csv."""

    def __init__(self, ranks: Ranks, since_row: list[list[float]]) -> None:
        """Continue with the steps that a checkpoint holds, see `Progress.since_row`."""
        self._ranks = ranks
        # Each rank holds its share of the loss, and rank 0 the norm; checkpoints hold the total.
        self._values = [torch.tensor(values, device=ranks.device) * ranks.first for values in since_row]

    def add(self, figures: StepFigures) -> None:
        """Add a step without waiting for the device."""
        norm = figures.gradient_norm if self._ranks.first else torch.zeros_like(figures.gradient_norm)
        self._values.append(torch.stack([figures.loss, norm]))

    def read(self) -> list[list[float]]:
        """[loss, gradient norm] of every step, equal on all ranks; waits for the device. Every rank must call it."""
        values: list[list[float]] = self._ranks.all_reduce(torch.stack(self._values)).tolist() if self._values else []
        return values

    def clear(self) -> None:
        """Forget the steps, after a row."""
        self._values.clear()


def fault(progress: Progress, network: nn.Module, optimizer: torch.optim.Optimizer, ranks: Ranks) -> str | None:
    """The first value that is not finite, as words; None if all are. Every rank must call it.

    Also sets `progress.gradient_norm` to the last finite gradient norm.
    """
    first = progress.step - len(progress.since_row) + 1
    for step, (loss, norm) in enumerate(progress.since_row, start=first):
        for name, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value):
                return f"the {name} of step {step} is {value}"
        progress.gradient_norm = norm
    tensor = first_non_finite(dict(_state(network, optimizer)), ranks.all_reduce)
    return tensor and f"{tensor} is not finite after step {progress.step}"


def _state(network: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    weights = {name for name, _ in network.named_parameters()}
    for name, tensor in trained_state(network).items():
        yield f"{'weight' if name in weights else 'statistic'} {name}", tensor
    for name, parameter in network.named_parameters():
        for kind, value in optimizer.state.get(parameter, {}).items():
            if kind != "step":  # a count, which may be on the CPU
                yield f"optimiser state {kind} of {name}", value


def stopped(found: str, progress: Progress, config: TrainConfig, checkpoint: int | None) -> NonFiniteError:
    """The error of a run that stops because a value is not finite.

    Args:
        found: answer of `fault`, or what a validation found.
        progress: state of the run.
        config: section `train`.
        checkpoint: step of the newest checkpoint; None: there is none.
    """
    last = "none" if progress.gradient_norm is None else f"{progress.gradient_norm:.3g}"
    limit = "set" if config.max_gradient_norm is None else "lower"
    advice = [f"lower train.learning_rate, {limit} train.max_gradient_norm"]
    weights = {"train.weight_decay": config.weight_decay, "train.aux_weight": config.aux_weight}
    if config.masking.paired:
        weights["train.masking.paired_weight"] = config.masking.paired_weight
        weights["train.masking.distillation"] = config.masking.distillation
    advice += [f"lower {key}, which is {value:g}" for key, value in weights.items() if value > LARGE]
    advice += ["set train.precision: float32"] * (config.precision != "float32")
    advice += ["or check model.weights, model.init and the value range of the images"]
    newest = f"the newest checkpoint (step {checkpoint})"
    if checkpoint is None:
        intact = "there is no checkpoint"
    elif checkpoint == progress.step:  # a validation found it: weights that are finite were saved before
        intact = f"{newest} has this network; remove the checkpoints to start again"
    else:
        intact = f"{newest} is finite"
    return NonFiniteError(
        f"training stopped at step {progress.step}: {found} (last finite gradient norm: {last}); "
        f"{', '.join(advice)}; {intact}"
    )
