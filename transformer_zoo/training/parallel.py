"""How the processes of a run share the training of a model: each has the whole model, or a part of it."""

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transformer_zoo.errors import UserError
from transformer_zoo.training import distributed
from transformer_zoo.training.config import ParallelConfig
from transformer_zoo.training.device import use_compile
from transformer_zoo.training.distributed import World
from transformer_zoo.training.layout import Layout
from transformer_zoo.training.task import Task
from transformer_zoo.training.weights import Weights, copy_weights

LARGE = 10**9
"""Number of parameters above which `auto` shards."""


@dataclass(frozen=True)
class Arrangement:
    """There are `replicate` groups of processes, each of `shard` subgroups, each of `tensor` processes."""

    replicate: int = 1
    shard: int = 1
    tensor: int = 1

    @property
    def parts(self) -> int:
        """Number of parts that a model is divided into."""
        return self.shard * self.tensor

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.replicate * self.parts

    def __str__(self) -> str:
        return f"replicate {self.replicate} x shard {self.shard} x tensor {self.tensor}"

    def readers(self, here: World) -> World:
        """The processes that read their own text: this process's rank among them, and their number."""
        return World(here.rank // self.tensor, here.size // self.tensor, here.local_rank)


def arrange(config: ParallelConfig, here: World, n_parameters: int) -> Arrangement:
    """How the processes share a model of this many parameters.

    Raises:
        UserError: the arrangement takes another number of processes than there are.
    """
    tensor = config.tensor
    rest = max(here.size // tensor, 1)
    if isinstance(config.shard, int):
        shard = config.shard
    elif isinstance(config.replicate, int):
        shard = max(rest // config.replicate, 1)
    else:
        shard = math.gcd(rest, max(on_this_machine(here) // tensor, 1)) if n_parameters > LARGE else 1
    replicate = config.replicate if isinstance(config.replicate, int) else max(rest // shard, 1)
    found = Arrangement(replicate, shard, tensor)
    if found.size != here.size:
        started = "1 process was" if here.size == 1 else f"{here.size} processes were"
        raise UserError(
            f"parallel: {found} takes {found.size:,} processes, and {started} started: change one of them, or start "
            f"torchrun --nproc-per-node {found.size}"
        )
    return found


def on_this_machine(here: World) -> int:
    """Number of processes on this machine, from torchrun; all of them if it does not say."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", here.size))


class Trained:
    """A task whose whole model is in every process: in a single one, or in several that average their gradients."""

    layout: Layout
    objective: Any
    """The module that takes a micro-batch."""

    def __init__(self, task: Task, device: torch.device, here: World) -> None:
        self.task, self.here, self.layout = task, here, Layout()
        task.objective.to(device)
        self.model, self.objective = task.model, distributed.wrap(task.objective, device)
        self.held = list(task.model.parameters())

    def sync(self, now: bool) -> AbstractContextManager[None]:
        """Inside, a backward pass completes the gradients if `now`; otherwise more micro-batches follow."""
        return distributed.sync(self.objective, now)

    def take_gradients(self) -> None:
        """Call it after all backward passes of an update: from then on `held` has the gradients."""

    def norm(self) -> Tensor:
        """The norm of the whole gradient, ()."""
        return nn.utils.get_total_norm([weight.grad for weight in self.held if weight.grad is not None])

    def weights(self) -> Weights:
        """The model's weights, on the CPU of the first process. All processes must call it together."""
        return copy_weights(self.model) if self.here.main else {}

    def state(self) -> Weights:
        """The same weights for writing at once: they may change with the model."""
        return self.model.state_dict()

    def load(self, weights: Weights) -> None:
        """Load the result of `weights`, which every process has now.

        Raises:
            RuntimeError, ValueError: the weights belong to another model.
        """
        self.model.load_state_dict(weights)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Inside, the task's own model has the weights, at least in the first process. All must enter together."""
        yield


def prepare(
    task: Task, arrangement: Arrangement, device: torch.device, here: World, compile: str, *, narrow: bool
) -> Trained:
    """The task, prepared for this arrangement. `compile` is the recipe's field; `narrow` means bfloat16."""
    if arrangement.parts == 1:
        if use_compile(compile, device, say=here.main):
            task.objective.compile()
        return Trained(task, device, here)
    if compile == "always":
        raise UserError(
            "compile: a model that processes divide by parallel.shard or parallel.tensor is not compiled: leave it out"
        )
    from transformer_zoo.training.sharded import Sharded  # importing its engine takes a second

    return Sharded(task, arrangement, device, here, narrow=narrow)
