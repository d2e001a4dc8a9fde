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
import hashlib
import itertools
import json
import logging
import pickletools
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from components.common.errors import ParamsError, WeightsError
from components.common.files import replacing
from components.train.identity import difference

log = logging.getLogger(__name__)

LOCK_S = 20.0
"""How long to wait until the processes of a killed run have ended, seconds."""


@dataclass(slots=True)
class Progress:
    """State of a run in addition to weights and optimiser."""

    step: int = 0
    losses: list[dict[str, float]] = field(default_factory=list)  # rows: step, loss, learning_rate
    since_row: list[float] = field(default_factory=list)  # losses of the steps since the last row
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
        self._unwritten: dict[str, Mapping[str, Tensor]] = {}  # candidates that wait for free disk space

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
                tensors, header = _read(path)
            except DamagedError as error:
                log.warning("%s; using the previous checkpoint", error)
                continue
            self._require_same(path, header["identity"], header["progress"]["step"])
            return Checkpoint(tensors, Progress(**header["progress"]))
        return None

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> bool:
        """Write a checkpoint and remove the oldest ones.

        Returns:
            False if the file cannot be written, for example because the disk is full. A warning is logged and the older
            checkpoints are kept.
        """
        tensors = {f"network/{name}": tensor for name, tensor in trained_state(network).items()}
        for name, parameter in network.named_parameters():
            for kind, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{kind}/{name}"] = value
        header = {"identity": self._identity, "progress": asdict(progress)}
        try:
            self._write_candidates()  # first, so that a checkpoint never refers to candidates that do not exist
            self._write(f"step-{progress.step:08}", tensors, header)
        except OSError as error:
            log.warning("checkpoint of step %d not written (%s); training continues", progress.step, error.strerror)
            return False
        for old in self._steps()[self._keep :]:
            old.unlink()
        return True

    def save_candidate(self, network: nn.Module, step: int) -> None:
        """Store the weights of a validated step; if the disk is full, keep them in memory until there is space."""
        weights = {name: tensor.detach().cpu().clone() for name, tensor in trained_state(network).items()}
        self._unwritten[f"candidate-{step:08}"] = weights
        try:
            self._write_candidates()
        except OSError as error:
            log.warning("weights of step %d not written (%s); they stay in memory", step, error.strerror)

    def load_candidate(self, network: nn.Module, step: int) -> None:
        """Load the weights of a validated step.

        Raises:
            WeightsError: its file is missing or damaged.
        """
        name = f"candidate-{step:08}"
        weights = self._unwritten.get(name) or _read(self.folder / f"{name}.safetensors")[0]
        network.load_state_dict(weights, strict=False)

    def drop_candidates_except(self, steps: Collection[int]) -> None:
        """Remove the weights of all validated steps except `steps`."""
        keep = {f"candidate-{step:08}" for step in steps}
        self._unwritten = {name: weights for name, weights in self._unwritten.items() if name in keep}
        for path in self.folder.glob("candidate-*.safetensors"):
            if path.stem not in keep:
                path.unlink()

    def finish(self) -> None:
        """Mark the run as complete."""
        (self.folder / "finished").touch()

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def _require_same(self, path: Path, identity: Mapping[str, Any], step: int) -> None:
        if found := difference(self._identity, identity):
            raise ParamsError(
                f"{path}: the run interrupted at step {step} had {found.name} = {found.there!r}, now it is "
                f"{found.here!r}; set it back to resume that run, or remove {self.folder} to start a new one"
            )

    def _write_candidates(self) -> None:
        for name in list(self._unwritten):
            self._write(name, self._unwritten[name], {})
            del self._unwritten[name]

    def _write(self, name: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
        on_cpu = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        text = json.dumps(header)
        metadata = {"header": text, "sha256": fingerprint(on_cpu, text)}
        with replacing(self.folder / f"{name}.safetensors") as draft:
            draft.write_bytes(save(on_cpu, metadata))


class DamagedError(WeightsError):
    """A checkpoint cannot be read, or its content does not match its checksum."""


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
    """All trainable weights and all buffers; frozen weights are loaded from `model.weights` instead."""
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return {name: tensor for name, tensor in network.state_dict().items() if name not in frozen}


def fingerprint(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Hexadecimal sha256 of the names and bytes of tensors, and of a text."""
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


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


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            metadata = file.metadata() or {}
        if metadata["sha256"] != fingerprint(tensors, metadata["header"]):
            raise DamagedError(f"{path}: the content does not match the checksum")
        return tensors, json.loads(metadata["header"])
    except (SafetensorError, OSError, KeyError) as error:
        if _is_pickle(path):
            raise WeightsError(
                f"{path}: a pickle, which can run arbitrary code, so it was not loaded; find its origin and remove it"
            ) from None
        raise DamagedError(f"{path}: not a readable checkpoint ({error})") from None


def _is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, plain or in the zip that `torch.save` writes. No code of the pickle is run."""
    try:
        if zipfile.is_zipfile(path):
            return True
        with path.open("rb") as file:
            return len(list(itertools.islice(pickletools.genops(file), 3))) == 3
    except (OSError, ValueError):  # ValueError: no opcode
        return False
