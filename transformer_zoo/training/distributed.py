"""Calls for runs of one process or many; with one process they do nothing.

`torchrun --nproc-per-node N recipe.py ...` sets the environment that `start` reads.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from transformer_zoo.errors import UserError, run_program
from transformer_zoo.training.heartbeat import Heartbeat

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process's rank, the number of processes, and its rank on its own machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0


def world() -> World:
    """The world that torchrun describes in the environment; without torchrun, a single process."""
    defaults = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}
    return World(*(int(os.environ.get(name, default)) for name, default in defaults.items()))


JOINING = timedelta(minutes=10)  # time in which all processes of a run must have started
WAITING = timedelta(days=1)  # for another process, which may validate for long; the heartbeat checks that it lives

_heartbeat: Heartbeat | None = None
_CPU = torch.device("cpu")


def start(here: World, device: torch.device) -> None:
    """Join the processes: NCCL between GPUs, gloo between CPUs. From then on the death of one process ends all.

    Processes exchange facts about the run from CPU to CPU, even if GPUs train: a GPU would first have to finish its
    queued work.

    Raises:
        UserError: the processes do not find each other.
    """
    global _heartbeat
    if here.size == 1 or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    host = os.environ["MASTER_ADDR"]
    try:
        store = next(rendezvous("env://", here.rank, here.size, timeout=JOINING))[0]
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=here.rank, world_size=here.size, timeout=WAITING)
        store.set_timeout(WAITING)
        _heartbeat = Heartbeat(here.rank, here.size, host, broadcast)
    except (OSError, dist.DistError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"the {here.size} processes of this run do not find each other at {host} ({reason}): start all of them, "
            "on machines that reach each other"
        ) from None


def stop(*, failed: bool | None = None) -> None:
    """Leave the group. If this process failed, the others are told and end too."""
    if _heartbeat is not None:
        _heartbeat.leave(failed=failed)
    if dist.is_initialized():
        dist.destroy_process_group()


def run(work: Callable[[], object]) -> int:
    """`run_program` for a program of one process or many; they leave their group at its end."""
    failed = True
    try:
        status = run_program(work)
        failed = status not in (0, 130)  # done, or stopped as all of them are
        return status
    except RuntimeError:  # an exchange fails if a process is gone: then the message says that
        if _heartbeat is not None:
            _heartbeat.explain()
        raise
    finally:
        stop(failed=failed)


def barrier() -> None:
    """Wait until every process is here."""
    if dist.is_initialized():
        dist.barrier()


@contextmanager
def first() -> Iterator[bool]:
    """Inside, True in the process that does the work, while the others wait for its end.

    If it fails, the others end too, without a message: the first process reports the error.

    Raises:
        SystemExit: the first process failed.
    """
    failed = True
    try:
        yield world().main
        failed = False
    finally:
        if broadcast(failed) and not world().main:
            raise SystemExit(1)


def wrap(module: nn.Module, device: torch.device) -> nn.Module:
    """`module` with its gradients averaged over the processes in the backward pass."""
    if not dist.is_initialized():
        return module
    return DistributedDataParallel(module, device_ids=[device.index] if device.type == "cuda" else None)


def sync(module: nn.Module, now: bool) -> AbstractContextManager[None]:
    """Inside, a backward pass exchanges gradients if `now`; otherwise it only adds to those of this process."""
    return nullcontext() if now or not isinstance(module, DistributedDataParallel) else module.no_sync()


def all_sum(tensor: Tensor) -> Tensor:
    """`tensor` summed over the processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def broadcast(value: T) -> T:
    """The first process's `value`, in every process."""
    box = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(box, device=_CPU)
    return box[0]


def any_of(flag: bool) -> bool:
    """Whether `flag` is true in any process."""
    return bool(all_sum(torch.tensor(float(flag), device=_CPU)))
