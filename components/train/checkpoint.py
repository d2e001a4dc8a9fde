"""Checkpoints of a run: one safetensors file each, tensors and JSON, no pickle; written whole or not at all.

A run has a folder of its own, named by everything that shapes its numbers, so that runs are never mixed: another
learning rate or data version starts another folder, and going back to the first one goes on where it stopped.
    step-00000200.safetensors        weights that train, buffers, optimiser state, history; the latest few are kept
    candidate-00000200.safetensors   weights of a validated step that selection may still choose
    finished                         the run is over; running it again starts it anew
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from components.common.errors import WeightsError
from components.common.files import replacing

log = logging.getLogger(__name__)

HEADER = "progress"


@dataclass(slots=True)
class Progress:
    """How far a run is: its state beside weights and optimiser. Random numbers have none: they follow from the step."""

    step: int = 0
    losses: list[dict[str, float]] = field(default_factory=list)  # rows: step, loss, learning_rate
    validations: list[dict[str, float]] = field(default_factory=list)  # rows: step and every figure
    mlflow_run_id: str | None = None


def run_key(shaping: Mapping[str, Any]) -> str:
    """Name of a run's folder: a short hash of everything that shapes its numbers."""
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]


class Checkpoints:
    """The folder of one run."""

    def __init__(self, folder: Path, keep: int) -> None:
        """Use `folder`, and keep the latest `keep` checkpoints in it; a finished run's folder is emptied first."""
        self.folder, self._keep = folder, keep
        if (folder / "finished").exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for draft in folder.glob(".*.part"):  # of a killed run
            draft.unlink()

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Write a checkpoint, then drop the oldest ones."""
        tensors = {f"network/{name}": tensor for name, tensor in trained_state(network).items()}
        for name, parameter in network.named_parameters():
            for kind, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{kind}/{name}"] = value
        self._write(f"step-{progress.step:08}", tensors, {HEADER: json.dumps(asdict(progress))})
        for old in self._steps()[self._keep :]:
            old.unlink()

    def restore(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Load the latest readable checkpoint; without one, the progress of a run that has not begun."""
        for path in self._steps():
            try:
                tensors, header = _read(path)
            except WeightsError as error:
                log.warning("%s; the one before is used", error)
                continue
            weights = {name.removeprefix("network/"): t for name, t in tensors.items() if name.startswith("network/")}
            network.load_state_dict(weights, strict=False)
            _restore_optimizer(network, optimizer, tensors)
            return Progress(**json.loads(header[HEADER]))
        return Progress()

    def save_candidate(self, network: nn.Module, step: int) -> None:
        """Keep the weights of a validated step."""
        self._write(f"candidate-{step:08}", trained_state(network), {})

    def load_candidate(self, network: nn.Module, step: int) -> None:
        """Load the weights of a validated step.

        Raises:
            WeightsError: its file is missing or damaged.
        """
        weights, _ = _read(self.folder / f"candidate-{step:08}.safetensors")
        network.load_state_dict(weights, strict=False)

    def drop_candidates_except(self, steps: Collection[int]) -> None:
        """Drop the weights of steps that selection can no longer choose."""
        keep = {f"candidate-{step:08}.safetensors" for step in steps}
        for path in self.folder.glob("candidate-*.safetensors"):
            if path.name not in keep:
                path.unlink()

    def finish(self) -> None:
        """Mark the run as over."""
        (self.folder / "finished").touch()

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def _write(self, name: str, tensors: Mapping[str, Tensor], header: dict[str, str]) -> None:
        on_cpu = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        with replacing(self.folder / f"{name}.safetensors") as draft:
            save_file(on_cpu, draft, metadata=header)


def trained_state(network: nn.Module) -> dict[str, Tensor]:
    """Every weight that trains and every buffer; frozen weights are where they came from."""
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return {name: tensor for name, tensor in network.state_dict().items() if name not in frozen}


def _restore_optimizer(network: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = dict(network.named_parameters())
    fused = optimizer.defaults.get("fused", False)  # its step counts are beside the weights, not on the CPU
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, kind, name = key.split("/", 2)
            parameter = parameters[name]
            if kind == "step":
                value = value.to(parameter.device) if fused else value
            else:
                value = torch.empty_like(parameter).copy_(value)  # in the weight's own memory format
            optimizer.state[parameter][kind] = value


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dict)
    except (FileNotFoundError, SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable checkpoint ({error})") from None
