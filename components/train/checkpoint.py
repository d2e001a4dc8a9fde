"""Checkpoints of a run: one safetensors file each, tensors and JSON, no pickle; written whole or not at all.

A folder holds one run, and its files say which: parameters, network, weights and data version. Going on with it as
another run is refused.
    step-00000200.safetensors        weights that train, buffers, optimiser state, history; the latest few are kept
    candidate-00000200.safetensors   weights of a validated step that selection may still choose
    finished                         the run is over; the folder is emptied when another one begins
Learning rate, crops, masks and dropout are functions of the step, so the step is all of their state.
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
"""How long to wait for the processes of a killed run to end."""


@dataclass(slots=True)
class Progress:
    """How far a run is: its state beside weights and optimiser. Random numbers have none: they follow from the step."""

    step: int = 0
    losses: list[dict[str, float]] = field(default_factory=list)  # rows: step, loss, learning_rate
    since_row: list[float] = field(default_factory=list)  # losses of the steps that the next row will average
    validations: list[dict[str, float]] = field(default_factory=list)  # rows: step and every figure
    mlflow_run_id: str | None = None


class Checkpoint(NamedTuple):
    """What a file holds."""

    tensors: dict[str, Tensor]
    progress: Progress


class Checkpoints:
    """The folder of one run. One process at a time may write to it: see `locked`."""

    def __init__(self, folder: Path, keep: int, identity: Mapping[str, Any]) -> None:
        """Use `folder` for the run of this identity, and keep its latest `keep` checkpoints."""
        self.folder, self._keep, self._identity = folder, keep, identity
        self._unwritten: dict[str, Mapping[str, Tensor]] = {}  # candidates that wait for room on the disk

    def latest(self) -> Checkpoint | None:
        """The latest readable checkpoint, None for a run that has not begun; the folder is put in order.

        A damaged file is passed over with a warning.

        Raises:
            ParamsError: the folder holds a run with other parameters, weights or data that is not finished.
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
                log.warning("%s; the one before is used", error)
                continue
            self._require_same(path, header["identity"], header["progress"]["step"])
            return Checkpoint(tensors, Progress(**header["progress"]))
        return None

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> bool:
        """Write a checkpoint, then drop the oldest ones; on a full disk, say so, keep those and answer False."""
        tensors = {f"network/{name}": tensor for name, tensor in trained_state(network).items()}
        for name, parameter in network.named_parameters():
            for kind, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{kind}/{name}"] = value
        header = {"identity": self._identity, "progress": asdict(progress)}
        try:
            self._write_candidates()  # first: a checkpoint never speaks of candidates that are not there
            self._write(f"step-{progress.step:08}", tensors, header)
        except OSError as error:
            log.warning("checkpoint of step %d not written (%s); training goes on", progress.step, error.strerror)
            return False
        for old in self._steps()[self._keep :]:
            old.unlink()
        return True

    def save_candidate(self, network: nn.Module, step: int) -> None:
        """Keep the weights of a validated step, on the disk as soon as that has room."""
        weights = {name: tensor.detach().cpu().clone() for name, tensor in trained_state(network).items()}
        self._unwritten[f"candidate-{step:08}"] = weights
        try:
            self._write_candidates()
        except OSError as error:
            log.warning("weights of step %d not written (%s); they are kept in memory", step, error.strerror)

    def load_candidate(self, network: nn.Module, step: int) -> None:
        """Load the weights of a validated step.

        Raises:
            WeightsError: its file is missing or damaged.
        """
        name = f"candidate-{step:08}"
        weights = self._unwritten.get(name) or _read(self.folder / f"{name}.safetensors")[0]
        network.load_state_dict(weights, strict=False)

    def drop_candidates_except(self, steps: Collection[int]) -> None:
        """Drop the weights of steps that selection can no longer choose."""
        keep = {f"candidate-{step:08}" for step in steps}
        self._unwritten = {name: weights for name, weights in self._unwritten.items() if name in keep}
        for path in self.folder.glob("candidate-*.safetensors"):
            if path.stem not in keep:
                path.unlink()

    def finish(self) -> None:
        """Mark the run as over."""
        (self.folder / "finished").touch()

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def _require_same(self, path: Path, identity: Mapping[str, Any], step: int) -> None:
        if found := difference(self._identity, identity):
            raise ParamsError(
                f"{path}: a run that was interrupted at step {step} had {found.name} = {found.there!r}, now it is "
                f"{found.here!r}; set it back to go on with that run, or remove {self.folder} to begin another one"
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
    """A checkpoint cannot be read, or is not what was written."""


def load(checkpoint: Checkpoint, network: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Put weights and optimiser state back; returns how far the run was."""
    weights = {
        name.removeprefix("network/"): t for name, t in checkpoint.tensors.items() if name.startswith("network/")
    }
    network.load_state_dict(weights, strict=False)
    parameters = dict(network.named_parameters())
    fused = optimizer.defaults.get("fused", False)  # its step counts are beside the weights, not on the CPU
    for key, value in checkpoint.tensors.items():
        if key.startswith("optimizer/"):
            _, kind, name = key.split("/", 2)
            parameter = parameters[name]
            if kind == "step":
                value = value.to(parameter.device) if fused else value
            else:
                value = torch.empty_like(parameter).copy_(value)  # in the weight's own memory format
            optimizer.state[parameter][kind] = value
    return checkpoint.progress


def trained_state(network: nn.Module) -> dict[str, Tensor]:
    """Every weight that trains and every buffer; frozen weights are where they came from."""
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return {name: tensor for name, tensor in network.state_dict().items() if name not in frozen}


def fingerprint(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """The sha256 of names, bytes and a text, hexadecimal."""
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder, and keep every other process from training in it while the block runs.

    Raises:
        ParamsError: another process does so, also after a while: what a killed one has started ends by itself.
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
                    raise ParamsError(f"{folder}: another process trains in it; wait for its end, or stop it") from None
                time.sleep(0.2)
        yield


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            metadata = file.metadata() or {}
        if metadata["sha256"] != fingerprint(tensors, metadata["header"]):
            raise DamagedError(f"{path}: its content does not fit its checksum")
        return tensors, json.loads(metadata["header"])
    except (SafetensorError, OSError, KeyError) as error:
        if _is_pickle(path):
            raise WeightsError(
                f"{path}: a pickle, which can run any code; it was not loaded. Find out who put it there, and remove it"
            ) from None
        raise DamagedError(f"{path}: not a readable checkpoint ({error})") from None


def _is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, bare or in the zip that `torch.save` makes; nothing of it is run."""
    try:
        if zipfile.is_zipfile(path):
            return True
        with path.open("rb") as file:
            return len(list(itertools.islice(pickletools.genops(file), 3))) == 3
    except (OSError, ValueError):  # ValueError: no opcode
        return False
