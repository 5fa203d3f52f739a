"""How the processes of a run share the training of a model: each has all of it, or a part of it."""

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
"""Parameters above which `auto` shards."""


@dataclass(frozen=True)
class Arrangement:
    """Every process is of one of `replicate` groups, of `shard` subgroups of that, and of `tensor` of these."""

    replicate: int = 1
    shard: int = 1
    tensor: int = 1

    @property
    def parts(self) -> int:
        """In how many a model is divided."""
        return self.shard * self.tensor

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.replicate * self.parts

    def __str__(self) -> str:
        return f"replicate {self.replicate} x shard {self.shard} x tensor {self.tensor}"

    def readers(self, here: World) -> World:
        """Those that read text of their own: this process's number among them, and theirs."""
        return World(here.rank // self.tensor, here.size // self.tensor, here.local_rank)


def arrange(config: ParallelConfig, here: World, n_parameters: int) -> Arrangement:
    """How the processes share a model of so many parameters.

    Raises:
        UserError: there is another number of processes than that takes.
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
    """How many of the processes are on it, as torchrun says; all, where nobody does."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", here.size))


class Trained:
    """A task whose model every process has whole: one alone, or several that average their gradients."""

    layout: Layout
    objective: Any
    """What a micro-batch is given to."""

    def __init__(self, task: Task, device: torch.device, here: World) -> None:
        self.task, self.here, self.layout = task, here, Layout()
        task.objective.to(device)
        self.model, self.objective = task.model, distributed.wrap(task.objective, device)
        self.held = list(task.model.parameters())

    def sync(self, now: bool) -> AbstractContextManager[None]:
        """Inside, a backward pass completes gradients if `now`; else more micro-batches follow."""
        return distributed.sync(self.objective, now)

    def take_gradients(self) -> None:
        """To be called when all backward passes of an update are done: from then on `held` has them."""

    def norm(self) -> Tensor:
        """The norm of the whole gradient, ()."""
        return nn.utils.get_total_norm([weight.grad for weight in self.held if weight.grad is not None])

    def weights(self) -> Weights:
        """Those of the model, on the CPU of the first process; others need not have them. All must ask together."""
        return copy_weights(self.model) if self.here.main else {}

    def state(self) -> Weights:
        """The same to be written soon: it may change with the model."""
        return self.model.state_dict()

    def load(self, weights: Weights) -> None:
        """What `weights` gave, and every process has now.

        Raises:
            RuntimeError, ValueError: it is of another model.
        """
        self.model.load_state_dict(weights)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Inside, the task's own model has the weights, in the first process at least. All must enter together."""
        yield


def prepare(
    task: Task, arrangement: Arrangement, device: torch.device, here: World, compile: str, *, narrow: bool
) -> Trained:
    """The task, prepared for being trained so; `compile` is the recipe's, `narrow`: in bfloat16."""
    if arrangement.parts == 1:
        if use_compile(compile, device, say=here.main):
            task.objective.compile()
        return Trained(task, device, here)
    from transformer_zoo.training.sharded import Sharded  # whose engine takes a second to import

    return Sharded(task, arrangement, device, here, compile=compile == "always", narrow=narrow)
