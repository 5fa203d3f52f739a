"""Models of which each process has a part, by torch's engine: `fully_shard` over `shard`, DTensor over `tensor`.

Optimizers see a process's part of a weight as an ordinary tensor (`Layout`): some rows of the part that `tensor` gives
it. The task's own model is empty meanwhile. In the first process it gets the weights for each validation, and decodes
as in any other run.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from transformer_zoo.config import ModelConfig
from transformer_zoo.errors import UserError
from transformer_zoo.kernels.divided import spread
from transformer_zoo.models import build_model
from transformer_zoo.models.empty import uninitialised
from transformer_zoo.training import distributed
from transformer_zoo.training.distributed import World
from transformer_zoo.training.layout import Compute, Layout
from transformer_zoo.training.parallel import Arrangement, Trained
from transformer_zoo.training.task import Task
from transformer_zoo.training.weights import Weights

_STYLES: dict[str, Any] = {"columns": ColwiseParallel, "rows": RowwiseParallel}
_NAMES = ("replicate", "shard", "tensor")
Named = tuple[nn.Module, str]
"""A module and the name of a weight of its own."""


def check_cut(config: ModelConfig, tensor: int) -> None:
    """Raise a UserError if such a model cannot be divided by this many processes; it says which numbers would do."""
    with uninitialised("meta", torch.float32):
        model = build_model(config)
    try:
        for part in _cut_by_itself(model):
            part.cut(tensor, lambda x, axis: x)
    except ValueError as error:
        raise UserError(f"parallel.tensor {tensor}: {error}") from None


def _cut_by_itself(module: nn.Module) -> list[Any]:
    return [part for part in module.modules() if hasattr(part, "cut")]


def cut(module: nn.Module, mesh: DeviceMesh) -> list[Named]:
    """Divide a layer among the processes of a mesh of one dimension, as its parts say.

    A part that does not say how it is divided stays whole in each process.

    Returns:
        The whole weights that each process uses for its own part alone: their gradients must be summed.
    """
    n, rank = mesh.size(), mesh.get_local_rank()
    alike: list[Named] = []

    def own(x: Tensor, axis: int) -> Tensor:
        return spread(x, mesh).chunk(n, axis)[rank]

    for part in _cut_by_itself(module):
        how = part.cut(n, own)
        if plan := {name: _STYLES[kind]() for name, kind in how.items() if kind in _STYLES}:
            parallelize_module(part, mesh, plan, src_data_rank=None)
        for child in (getattr(part, name) for name, kind in how.items() if kind == "alike"):
            alike += [(inner, name) for inner in child.modules() for name, _ in inner.named_parameters(recurse=False)]
    return alike


def divide_vocabulary(model: Any, mesh: DeviceMesh) -> None:
    """Give each process some of the tokens, if their number can be divided."""
    for child in (getattr(model, name) for name in model.vocabulary):
        if child is not None and len(child.weight) % mesh.size() == 0:
            child.weight = nn.Parameter(distribute_tensor(child.weight, mesh, [Shard(0)], src_data_rank=None))


class Divided(Layout):
    """`held` is a process's part of a weight, which is first divided over `tensor`, then by rows over `shard`."""

    def __init__(self, model: nn.Module, mesh: DeviceMesh, here: World) -> None:
        self.shard, self.tensor, self.here = mesh["shard"], mesh["tensor"], here
        self.held = {id(weight): _held(weight) for weight in model.parameters()}
        self.weights: dict[Tensor, Any] = dict(zip(self.held.values(), model.parameters(), strict=True))

    def of(self, weight: nn.Parameter) -> nn.Parameter:
        return self.held[id(weight)]

    def shape(self, held: Tensor) -> torch.Size:
        shape: torch.Size = self.weights[held].shape
        return shape

    def axis(self, held: Tensor) -> int | None:
        """The axis along which `tensor` divides it; None: it is not divided."""
        weight = self.weights[held]
        last = weight.placements[-1]
        return last.dim if "tensor" in weight.device_mesh.mesh_dim_names and isinstance(last, Shard) else None

    def copies(self, held: Tensor) -> int:
        """Number of processes that have the same part."""
        return self.here.size // (self.shard.size() * (1 if self.axis(held) is None else self.tensor.size()))

    def own(self, whole: Tensor, held: Tensor) -> Tensor:
        whole, axis = super().own(whole, held), self.axis(held)
        if axis is not None:
            whole = whole.chunk(self.tensor.size(), axis)[self.tensor.get_local_rank()]
        rows = math.ceil(len(whole) / self.shard.size())
        return whole[self.shard.get_local_rank() * rows :][:rows]

    def whole(self, value: Tensor, held: Tensor) -> Tensor:
        """The whole value in every process, from the parts that each process holds."""
        axis, n = self.axis(held), self.shape(held)[0]
        n = n // self.tensor.size() if axis == 0 else n
        rows = math.ceil(n / self.shard.size())
        padded = value.new_zeros(rows, *value.shape[1:])
        padded[: len(value)] = value
        found = value.new_empty(rows * self.shard.size(), *value.shape[1:])
        dist.all_gather(list(found.split(rows)), padded, group=self.shard.get_group())
        if axis is None:
            return found[:n]
        parts = [torch.empty_like(found[:n]) for _ in range(self.tensor.size())]
        dist.all_gather(parts, found[:n], group=self.tensor.get_group())
        return torch.cat(parts, axis)

    def kept(self, value: Tensor, held: Tensor) -> Tensor:
        whole = self.whole(value.detach(), held)
        return whole.to("cpu", copy=True) if self.here.main else torch.empty(0)

    def computed(self, compute: Compute, values: list[Tensor], held: Sequence[Tensor], first: int) -> list[Tensor]:
        wholes = [self.whole(value, one) for value, one in zip(values, held, strict=True)]
        mine = slice((self.here.rank - first) % self.here.size, None, self.here.size)
        if wholes[mine]:
            wholes[mine] = [found.contiguous() for found in compute(wholes[mine])]
        for i, whole in enumerate(wholes):
            dist.broadcast(whole, src=(first + i) % self.here.size)
        return [self.own(whole, one) for whole, one in zip(wholes, held, strict=True)]


@torch.no_grad()
def _held(weight: Any) -> nn.Parameter:
    """The local part, in the same memory."""
    return nn.Parameter(weight.to_local(), requires_grad=weight.requires_grad)


class Sharded(Trained):
    """A task whose model is divided; `narrow` means products in bfloat16."""

    layout: Divided

    def __init__(
        self,
        task: Task,
        arrangement: Arrangement,
        device: torch.device,
        here: World,
        *,
        narrow: bool,
    ) -> None:
        self.task, self.device, self.here = task, device, here
        sizes = tuple(getattr(arrangement, name) for name in _NAMES)
        self.mesh = init_device_mesh(device.type, sizes, mesh_dim_names=_NAMES)
        memo: dict[int, Any] = {id(weight): weight for weight in task.objective.parameters()}  # no weight is copied
        self.model, self.objective = copy.deepcopy((task.model, task.objective), memo)
        alike = self._divide(narrow=narrow)
        self.layout = Divided(self.model, self.mesh, here)
        self.held = [self.layout.of(weight) for weight in self.model.parameters()]
        self.alike = [self.layout.of(getattr(module, name)) for module, name in alike]
        task.objective.to(device)

    def _divide(self, *, narrow: bool) -> list[Named]:
        """Divide each layer, then the rest, and free the task's own weights meanwhile. Returns what `cut` returns."""
        alike: list[Named] = []
        tensor = self.mesh["tensor"]
        mesh = self.mesh["replicate", "shard"] if self.mesh["replicate"].size() > 1 else self.mesh["shard"]
        # Under autocast alone all layers' weights in bfloat16 would be kept whole until the backward pass.
        in_layers = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        for layer, own in zip(_layers(self.model), _layers(self.task.model), strict=True):
            if tensor.size() > 1:
                alike += cut(layer, tensor)
            fully_shard(layer, mesh=mesh, mp_policy=in_layers if narrow else MixedPrecisionPolicy())
            self._empty(own)
        if tensor.size() > 1:
            divide_vocabulary(self.model, tensor)
        fully_shard(self.objective, mesh=mesh)
        self._empty(self.task.model)
        for module in self.objective.modules():
            if isinstance(module, FSDPModule):  # gloo cannot average, and NCCL need not
                module.set_force_sum_reduction_for_comms(True)
        return alike

    def _empty(self, module: nn.Module) -> None:
        """Replace the weights by zeros of the same shapes that take no memory."""
        for weight in module.parameters():
            weight.data = torch.zeros((), dtype=weight.dtype, device=self.device).expand(weight.shape)

    def sync(self, now: bool) -> AbstractContextManager[None]:
        """Each micro-batch adds to the divided gradients, so none is kept whole; `replicate` waits for the last one."""
        self.objective.set_requires_all_reduce(now)
        return nullcontext()

    @torch.no_grad()
    def take_gradients(self) -> None:
        for held, weight in self.layout.weights.items():
            held.grad, weight.grad = None if weight.grad is None else weight.grad.to_local(), None
        for held in self.alike:
            if held.grad is not None:
                dist.all_reduce(held.grad, group=self.mesh["tensor"].get_group())

    def norm(self) -> Tensor:
        squares = [held.grad.norm().square() / self.layout.copies(held) for held in self.held if held.grad is not None]
        return distributed.all_sum(torch.stack(squares).sum()).sqrt()

    def weights(self) -> Weights:
        found = self.state()
        return found if self.here.main else {}

    def state(self) -> Weights:
        held = {name: self.layout.of(weight) for name, weight in self.model.named_parameters()}
        return {
            name: self.layout.kept(held[name], held[name]) if name in held else value.to("cpu", copy=True)
            for name, value in self.model.state_dict().items()
        }

    @torch.no_grad()
    def load(self, weights: Weights) -> None:
        held = {name: self.layout.of(weight) for name, weight in self.model.named_parameters()}
        own = self.model.state_dict()
        if other := own.keys() ^ weights.keys():
            raise ValueError(f"{sorted(other)[0]} is not in both")
        for name, value in own.items():
            whole = weights[name]
            if name in held:
                held[name].copy_(self.layout.own(whole, held[name]))
            else:
                value.copy_(whole)

    @contextmanager
    def lent(self) -> Iterator[None]:
        weights = self.weights()
        if weights:
            there = {name: weights.pop(name).to(self.device) for name in list(weights)}
            self.task.model.load_state_dict(there, assign=True)
        try:
            yield
        finally:
            self._empty(self.task.model)


def _layers(model: Any) -> list[Any]:
    return [layer for stack in model.stacks for layer in getattr(model, stack).layers]
