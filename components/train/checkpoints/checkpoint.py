"""Checkpoints of a run: safetensors files with tensors and JSON, without pickle, written atomically.

A folder contains the checkpoints of one run. Each file records the identity of the run: parameters, network, backbone
weights and data version. Resuming with a different identity is an error.
    step-00000200.safetensors        trained weights, buffers, optimiser state, histories; the latest few are kept
    candidate-00000200.safetensors   weights of a validated step that selection may still choose
    finished                         the run is complete; the next run empties the folder
Learning rate, crops, masks and dropout are functions of the step, so no random state is stored.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from components.common.errors import NonFiniteError, ParamsError, WeightsError
from components.common.files import with_nan, without_nan
from components.train.checkpoints.checkpoint_format import DamagedError, read, write
from components.train.checkpoints.checkpoint_writer import Draft, Snapshot, Writer
from components.train.identity import difference
from model.finite import first_non_finite

log = logging.getLogger(__name__)

LOCK_S = 20.0
"""How long to wait until the processes of a killed run have ended, seconds."""


@dataclass(slots=True)
class Progress:
    """State of a run in addition to weights and optimiser."""

    step: int = 0
    losses: list[dict[str, float]] = field(default_factory=list)  # rows: step, loss, gradient_norm, learning_rate
    since_row: list[list[float]] = field(default_factory=list)  # [loss, gradient norm] of each step since the last row
    gradient_norm: float | None = None  # the last known one; None: before the first step
    validations: list[dict[str, float]] = field(default_factory=list)  # rows: step and all figures
    mlflow_run_id: str | None = None


class Checkpoint(NamedTuple):
    """Content of a checkpoint file."""

    tensors: dict[str, Tensor]
    progress: Progress


class Checkpoints:
    """The checkpoint folder of one run. Only one process at a time may write to it, see `locked`."""

    def __init__(self, folder: Path, keep: int, identity: Mapping[str, Any]) -> None:
        """Use `folder` for the run with this identity and keep its latest `keep` checkpoints."""
        self.folder, self._keep, self._identity = folder, keep, identity
        self._writer = Writer(self._write)

    def latest(self) -> Checkpoint | None:
        """Read the latest checkpoint; None if the run has not begun. Leftovers of earlier runs are removed.

        If a file is damaged, a warning is logged and the previous checkpoint is read.

        Raises:
            ParamsError: the folder contains an unfinished run with other parameters, weights or data.
            WeightsError: a file is a pickle.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        leftovers = ".*.part"  # of a killed run
        for old in self.folder.glob("[!.]*" if (self.folder / "finished").exists() else leftovers):
            old.unlink()
        for path in self._steps():
            try:
                tensors, header = read(path)
            except DamagedError as error:
                log.warning("%s; using the previous checkpoint", error)
                continue
            self._require_same(path, header["identity"], header["progress"]["step"])
            progress = Progress(**header["progress"])
            progress.validations = [with_nan(row) for row in progress.validations]
            return Checkpoint(tensors, progress)
        return None

    def newest_step(self) -> int | None:
        """Step of the newest checkpoint on disk, after all writes; None if there is none."""
        self.wait()
        paths = self._steps()
        return int(paths[0].stem.removeprefix("step-")) if paths else None

    def require_on_disk(self, step: int) -> None:
        """Wait for all writes, and check that the checkpoint of a step is on disk.

        Raises:
            WeightsError: it could not be written.
        """
        newest = self.newest_step()
        if newest == step:
            return
        found = "there is no checkpoint on disk" if newest is None else f"the newest one on disk is of step {newest}"
        raise WeightsError(
            f"{self.folder}: training stopped after step {step} on request, but the checkpoint of this step was not "
            f"written ({self._writer.problem or 'its file was removed'}); {found}; make sure that the folder can be "
            f"written, then run the same command again to continue after step {newest or 0}"
        )

    def save(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, candidates: Collection[int] = ()
    ) -> None:
        """Copy the state of the run. A background thread writes it; then it removes what is no longer needed.

        If the file cannot be written, for example because the disk is full, a warning is logged and the older files are
        kept. A checkpoint whose write has not begun is replaced by the next one.

        Args:
            network: weights and buffers.
            optimizer: state of the optimiser.
            progress: state of the run.
            candidates: validated steps that this checkpoint refers to; all earlier ones are removed.

        Raises:
            NonFiniteError: an earlier copy had a NaN or an infinite value, so it was not written.
        """
        tensors = {f"network/{name}": tensor for name, tensor in trained_state(network).items()}
        for name, parameter in network.named_parameters():
            for kind, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{kind}/{name}"] = value
        header = {"identity": self._identity, "progress": without_nan(asdict(progress))}
        obsolete = self._candidates() - {_candidate(step) for step in candidates}
        snapshot = self._writer.snapshot().take(tensors)
        self._writer.submit(Draft(f"step-{progress.step:08}", progress.step, snapshot, header, obsolete))

    def save_candidate(self, network: nn.Module, step: int) -> None:
        """Copy the weights of a validated step, to be written before the next checkpoint.

        If the disk is full, they stay in memory until there is space. Earlier writes are completed first, so copies of
        candidates pile up in memory only then.

        Raises:
            NonFiniteError: an earlier copy had a NaN or an infinite value, so it was not written.
        """
        snapshot = Snapshot().take(trained_state(network))
        self._writer.submit_candidate(Draft(_candidate(step), step, snapshot, {}))

    def load_candidate(self, network: nn.Module, step: int) -> None:
        """Load the weights of a validated step.

        Raises:
            WeightsError: its file is missing or damaged.
            NonFiniteError: a copy had a NaN or an infinite value, so it was not written.
        """
        self.wait()
        name = _candidate(step)
        held = self._writer.candidates.get(name)
        weights = held.snapshot.tensors() if held else read(self.folder / f"{name}.safetensors")[0]
        network.load_state_dict(weights, strict=False)

    def wait(self) -> None:
        """Wait until everything saved so far is on disk, or cannot be written.

        Raises:
            NonFiniteError: a copy had a NaN or an infinite value, so it was not written.
        """
        self._writer.wait()

    def finish(self) -> None:
        """Mark the run as complete, after all writes."""
        self.wait()
        (self.folder / "finished").touch()

    def close(self) -> None:
        """Complete all writes and end the background thread. Call this before the folder is unlocked."""
        self._writer.close()

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def _require_same(self, path: Path, identity: Mapping[str, Any], step: int) -> None:
        if found := difference(self._identity, identity):
            raise ParamsError(
                f"{path}: the run interrupted at step {step} had {found.name} = {found.there!r}, now it is "
                f"{found.here!r}; set it back to resume that run, or remove {self.folder} to start a new one"
            )

    def _candidates(self) -> frozenset[str]:
        """Names of all candidates, in memory and on disk."""
        in_memory = frozenset(self._writer.candidates)  # first: the thread moves them from memory to disk
        return in_memory.union(path.stem for path in self.folder.glob("candidate-*.safetensors"))

    def _write(self, draft: Draft) -> None:
        """Write a file and remove what it replaces. The background thread calls this."""
        tensors = draft.snapshot.tensors()
        if found := first_non_finite(tensors):
            raise NonFiniteError(
                f"step {draft.step}: {found} has a NaN or infinite value, so it was not saved; lower "
                "train.learning_rate or set train.max_gradient_norm"
            )
        write(self.folder / f"{draft.name}.safetensors", tensors, draft.header)
        for name in draft.obsolete:
            self._writer.candidates.pop(name, None)
            (self.folder / f"{name}.safetensors").unlink(missing_ok=True)
        for old in self._steps()[self._keep :]:
            old.unlink()


def _candidate(step: int) -> str:
    return f"candidate-{step:08}"


def load(checkpoint: Checkpoint, network: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Load weights and optimiser state from a checkpoint; returns the progress of its run."""
    weights = {
        name.removeprefix("network/"): t for name, t in checkpoint.tensors.items() if name.startswith("network/")
    }
    network.load_state_dict(weights, strict=False)
    parameters = dict(network.named_parameters())
    fused = optimizer.defaults.get("fused", False)  # its step counts are on the device of the weights
    for key, value in checkpoint.tensors.items():
        if key.startswith("optimizer/"):
            _, kind, name = key.split("/", 2)
            parameter = parameters[name]
            if kind == "step":
                value = value.to(parameter.device) if fused else value
            else:
                value = torch.empty_like(parameter).copy_(value)  # in the memory format of the weight
            optimizer.state[parameter][kind] = value
    return checkpoint.progress


def trained_state(network: nn.Module) -> dict[str, Tensor]:
    """All trainable weights and all buffers; frozen weights are loaded from `model.weights` or `model.init` instead."""
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return {name: tensor for name, tensor in network.state_dict().items() if name not in frozen}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create the folder and lock it, so that no other process trains in it inside the block.

    The processes of a killed run end after a short time, so the lock waits up to `LOCK_S`.

    Raises:
        ParamsError: another process still holds the lock after that time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + LOCK_S
    with (folder / ".lock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise ParamsError(
                        f"{folder}: another process is training in this folder; wait until it ends, or stop it"
                    ) from None
                time.sleep(0.2)
        yield
