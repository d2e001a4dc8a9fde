"""Ranks: the processes that train one network together, one per GPU, or several on CPUs.

`torchrun` starts the ranks and sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT in their environment.
Without these variables there is one process, and the functions here do nothing. Gradients and pixel counts are sent by
NCCL between GPUs and by gloo between CPUs. Everything else is sent by gloo, so it does not wait for a GPU.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from components.common.entrypoints import failures
from components.common.errors import MobanetError, ParamsError
from components.train.identity import difference
from components.train.ranks import heartbeat
from components.train.ranks.heartbeat import Watch
from components.train.ranks.stop import Stop
from model.conditional_norm import synchronise
from model.training_loss import Loss, TrainingLoss

log = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=1)
"""For rank 0, which calibrates alone at the end of a training. `Watch` finds lost ranks much earlier."""

TORCHRUN = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}
"""Environment variables that torchrun sets, and their values without torchrun."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process and its connection to the other ranks."""

    rank: int  # 0..size - 1; rank 0 logs to MLflow and writes files
    size: int  # number of ranks
    device: torch.device
    stop: Stop
    control: dist.ProcessGroup | None = None  # gloo group of all ranks; None: a single process

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which logs to MLflow and writes files."""
        return self.rank == 0

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum `values`, of any shape, over all ranks; every rank must call it."""
        if self.control is None:
            return values
        summed = values.clone()
        dist.all_reduce(summed, group=self.control if summed.device.type == "cpu" else None)
        return summed

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether any rank has set it; every rank must call it."""
        if self.control is None:
            return list(flags)
        return [count > 0 for count in self.all_reduce(torch.tensor(flags, dtype=torch.int64)).tolist()]

    def broadcast(self, make: Callable[[], T]) -> T:
        """Call `make` on rank 0 and return its result on every rank; a MobanetError is raised on every rank."""
        if self.control is None:
            return make()
        made: list[Any] = [None, None]
        if self.first:
            try:
                made[0] = make()
            except MobanetError as error:
                made[1] = error
        dist.broadcast_object_list(made, src=0, group=self.control)
        if made[1] is not None:
            raise made[1]
        value: T = made[0]
        return value

    def raise_first(self, error: MobanetError | None) -> None:
        """Raise the error of the first rank that has one on every rank; every rank must call it."""
        errors = [error] * self.size
        if self.control is not None:
            dist.all_gather_object(errors, error, group=self.control)
        if found := next((each for each in errors if each is not None), None):
            raise found

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Check that this rank trains the same network on the same data as rank 0.

        Raises:
            ParamsError: a fact of this rank differs from that of rank 0.
        """
        firsts = self.broadcast(lambda: facts)
        if found := difference(facts, firsts):
            raise ParamsError(
                f"rank {self.rank}: {found.name} is {found.here!r}, but {found.there!r} on rank 0; "
                "give every host the same parameters, weights and store"
            )

    def sync_batch_norms(self, network: nn.Module) -> None:
        """Make batch norms use the samples of all ranks; torch supports this on GPUs only."""
        if self.control is not None and self.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)
            synchronise(network)

    def data_parallel(self, loss: TrainingLoss) -> Loss:
        """Wrap a loss so that its backward pass averages the gradients of all ranks.

        Frozen weights are neither compared nor sent, and take no space in DDP's buckets. On CPUs the batch norms of
        each rank use its own samples, and every step starts with the running statistics of rank 0.
        """
        if self.control is None:
            return loss
        frozen = [name for name, parameter in loss.named_parameters() if not parameter.requires_grad]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(loss, frozen)
        return DistributedDataParallel(
            loss,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            forward_sync_buffers=self.device.type == "cpu",
        )

    def broadcast_buffers(self, network: nn.Module) -> None:
        """Copy the running statistics of rank 0 to every rank, so that all ranks score the same network."""
        if self.control is not None and self.device.type == "cpu":
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0, group=self.control)


def single_rank(device: torch.device) -> Ranks:
    """The only rank of a single-process training."""
    return Ranks(0, 1, device, Stop())


@contextmanager
def open_ranks(device: Literal["auto", "cpu", "cuda"]) -> Iterator[Ranks]:
    """Connect to the other ranks, if there are any, and disconnect when the block ends.

    If a rank is lost, the others exit within a minute with code 75, which means that the job can be restarted.

    Args:
        device: device to train on; auto: a GPU if there is one, else the CPU.

    Raises:
        ParamsError: there is no GPU, there are fewer GPUs than ranks on this host, or an environment variable of
            torchrun is missing or wrong.
    """
    rank, size, local = (_number(name, usual) for name, usual in TORCHRUN.items())
    if rank > 0:
        logging.getLogger("components").setLevel(logging.WARNING)  # all ranks would log the same lines
    chosen = _device(device, local if size > 1 else None)
    with Stop.on_sigterm() as stop:
        if size == 1:
            yield Ranks(0, 1, chosen, stop)
            return
        _require_address()
        store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=heartbeat.JOIN_S)))
        with Watch(rank, size, stop) as watch:
            try:
                backend = "nccl" if chosen.type == "cuda" else "gloo"
                dist.init_process_group(backend, store=store, rank=rank, world_size=size)
                control = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
                assert isinstance(control, dist.ProcessGroup)  # it is not for ranks outside the group
                ranks = Ranks(rank, size, chosen, stop, control)
                log.info("%d ranks train together", size)
                yield ranks
                dist.barrier(ranks.control)
            except RuntimeError as error:
                if failures.find(error) is not failures.LOST_RANK:
                    raise
                watch.give_up(failures.describe(failures.LOST_RANK, error))
        dist.barrier(ranks.control)  # rank 0 may host the store that the watches of other ranks use
        dist.destroy_process_group()


def _number(name: str, usual: int | None = None) -> int:
    """A number that torchrun puts into the environment."""
    text = os.environ.get(name, "" if usual is None else str(usual))
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ParamsError(
            f"the environment variable {name} is {text!r}; expected a number, as torchrun sets it; start the ranks "
            "with torchrun, or unset RANK, WORLD_SIZE and LOCAL_RANK"
        )
    return int(text)


def _require_address() -> None:
    """Check that the environment has the address at which rank 0 waits for the others."""
    if not os.environ.get("MASTER_ADDR"):
        raise ParamsError("the environment variable MASTER_ADDR is not set; start the ranks with torchrun")
    if not 0 < _number("MASTER_PORT") < 2**16:
        raise ParamsError(f"MASTER_PORT is {os.environ['MASTER_PORT']}; expected a port from 1 to 65535")


def _device(wanted: Literal["auto", "cpu", "cuda"], local_rank: int | None) -> torch.device:
    gpus = torch.cuda.device_count()
    if wanted == "cuda" and not gpus:
        raise ParamsError("runtime.device is cuda, but torch finds no GPU on this host; set it to auto or cpu")
    if wanted == "cpu" or not gpus:
        log.info("training on cpu, %d threads", torch.get_num_threads())
        return torch.device("cpu")
    if local_rank is not None and local_rank >= gpus:
        raise ParamsError(
            f"LOCAL_RANK is {local_rank}, but torch finds {gpus} GPUs on this host; start torchrun with "
            f"--nproc-per-node {gpus} or less, or set runtime.device: cpu"
        )
    device = torch.device("cuda", local_rank or 0)
    torch.cuda.set_device(device)
    log.info("training on %s", torch.cuda.get_device_name(device))
    return device
