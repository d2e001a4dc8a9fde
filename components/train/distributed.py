"""Ranks: the processes that train one network together, one per GPU, or several on CPUs.

`torchrun` starts them and says in the environment who is who (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT);
without these a process is alone, and everything here does nothing. Gradients and pixel counts travel by NCCL between
GPUs and by gloo between CPUs; all else by gloo, so that no GPU is waited for.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from components.common.errors import MobanetError, ParamsError
from components.train.identity import difference
from components.train.stop import Stop
from components.train.watch import Watch
from model.speed import Loss, TrainingLoss

log = logging.getLogger(__name__)

T = TypeVar("T")

TORCHRUN = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}
"""What torchrun puts into the environment, and what holds without it."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together."""

    rank: int  # 0..size - 1; rank 0 tracks and writes files
    size: int
    device: torch.device
    stop: Stop
    control: dist.ProcessGroup | None = None  # between CPUs; None: alone

    @property
    def first(self) -> bool:
        """Whether this is the rank that tracks and writes."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks; every rank must ask for it."""
        if self.control is None:
            return values
        summed = values.clone()
        dist.all_reduce(summed, group=self.control if summed.device.type == "cpu" else None)
        return summed

    def agree(self, *flags: bool) -> list[bool]:
        """Each flag that any rank has set; every rank must ask for it."""
        if self.control is None:
            return list(flags)
        return [count > 0 for count in self.total(torch.tensor(flags, dtype=torch.int64)).tolist()]

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives on rank 0; an error of the user's that it raises there is raised on every rank."""
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

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Refuse ranks that would train another network or on other data.

        Raises:
            ParamsError: some fact of this rank is another one than rank 0's.
        """
        firsts = self.from_first(lambda: facts)
        if found := difference(facts, firsts):
            raise ParamsError(
                f"rank {self.rank}: {found.name} is {found.here!r}, and {found.there!r} at rank 0; "
                "give every host the same parameters, weights and store"
            )

    def with_shared_norms(self, network: nn.Module) -> None:
        """Let batch norms see the samples of all ranks; torch can do so on GPUs only."""
        if self.control is not None and self.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)

    def with_shared_gradients(self, loss: TrainingLoss) -> Loss:
        """The same loss, whose backward pass averages the gradients of all ranks.

        Frozen weights are left out: they are neither compared, sent nor given room in a bucket. On CPUs every rank's
        batch norms see their own samples, and rank 0's running statistics are everybody's before the next step.
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

    def level(self, network: nn.Module) -> None:
        """Give every rank the running statistics of rank 0, before all of them score the network."""
        if self.control is not None and self.device.type == "cpu":
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0, group=self.control)


def alone(device: torch.device) -> Ranks:
    """A process that trains by itself."""
    return Ranks(0, 1, device, Stop())


@contextmanager
def open_ranks(device: Literal["auto", "cpu", "cuda"]) -> Iterator[Ranks]:
    """Join the other ranks, if there are any, and leave them when the block ends.

    A rank that is lost ends the others within a minute with exit code 75: the job can be started again.

    Args:
        device: what to train on; auto: a GPU if there is one.

    Raises:
        ParamsError: there is no GPU, or not one for every rank of this host.
    """
    rank, size, local = (int(os.environ.get(name, usual)) for name, usual in TORCHRUN.items())
    if rank > 0:
        logging.getLogger("components").setLevel(logging.WARNING)  # every rank would say the same
    chosen = _device(device, local if size > 1 else None)
    with Stop.on_sigterm() as stop:
        if size == 1:
            yield Ranks(0, 1, chosen, stop)
            return
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        control = dist.new_group(backend="gloo")
        assert isinstance(control, dist.ProcessGroup)  # not so for a rank that the group is without
        ranks = Ranks(rank, size, chosen, stop, control)
        log.info("%d ranks train together", size)
        with Watch(ranks.rank, size, stop) as watch:
            try:
                yield ranks
                dist.barrier(ranks.control)
            except RuntimeError as error:
                if not _is_of_a_lost_rank(error):
                    raise
                watch.give_up(f"rank {ranks.rank}: the connection to another rank broke")
        dist.barrier(ranks.control)  # rank 0 may keep what the watch of others speaks to
        dist.destroy_process_group()


def _device(wanted: Literal["auto", "cpu", "cuda"], local_rank: int | None) -> torch.device:
    gpus = torch.cuda.device_count()
    if wanted == "cuda" and not gpus:
        raise ParamsError("runtime.device is cuda, but torch sees no GPU here; set it to auto or cpu")
    if wanted == "cpu" or not gpus:
        log.info("training on cpu, %d threads", torch.get_num_threads())
        return torch.device("cpu")
    if local_rank is not None and local_rank >= gpus:
        raise ParamsError(
            f"LOCAL_RANK is {local_rank}, but torch sees {gpus} GPUs here; start torchrun with "
            f"--nproc-per-node {gpus} or less, or set runtime.device: cpu"
        )
    device = torch.device("cuda", local_rank or 0)
    torch.cuda.set_device(device)
    log.info("training on %s", torch.cuda.get_device_name(device))
    return device


def _is_of_a_lost_rank(error: RuntimeError) -> bool:
    """Whether a collective failed because its partner is gone; gloo says so in words alone."""
    return isinstance(error, dist.DistError) or "gloo/" in str(error) or "Connection" in str(error)
