"""A micro-batch's forward and backward pass as one CUDA graph, for kernels that end before Python starts the next one.

`torch.compile(mode="reduce-overhead")` records graphs too. But gradients that are summed over several micro-batches
come out wrong there, or not at all: the first ones lie in memory that its next graph writes to.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from transformer_zoo.training.config import RunConfig
from transformer_zoo.training.task import Batch

Losses = tuple[Tensor, Tensor]
Compute = Callable[[Batch, Tensor], Losses]

WARM_UPS = 3
MOST_GRAPHS = 64
SMALL = 5e12
"""Up to this many operations in a micro-batch recording is worthwhile: some 10 ms of an H100 at half its peak in
bfloat16. A layer has about 50 kernels (forward, backward and compiled), and Python starts one in 5 to 10 microseconds.
If each kernel computes more, the GPU is always behind Python and never waits."""


def captured(compute: Compute, config: RunConfig, model: nn.Module, device: torch.device, *, processes: int) -> Compute:
    """`compute`, recorded if `config.cuda_graphs` is `auto` and micro-batches are small, on a single GPU.

    It is not recorded if layers are computed again in the backward pass, which reads the state of the random generator.
    """
    again = any(getattr(module, "recompute", False) for module in model.modules())
    operations = 6 * sum(p.numel() for p in model.parameters()) * config.training.batch_tokens
    if config.cuda_graphs == "never" or device.type != "cuda" or processes > 1 or again or operations > SMALL:
        return compute
    return Captured(compute, device, CudaGraphs(device))


class Recorder(Protocol):
    """How a computation is run before it is recorded, and how it is recorded."""

    def aside(self, compute: Callable[[], Losses]) -> Losses:
        """Run it in the way in which it will be recorded."""

    def record(self, compute: Callable[[], Losses]) -> tuple[Callable[[], None], Losses]:
        """A function that runs it again on the same tensors, and its results, which are valid after that."""


class CudaGraphs:
    """CUDA's graphs. All share one pool of memory, because no graph needs what another one left there."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def aside(self, compute: Callable[[], Losses]) -> Losses:
        """It runs on the stream that records, so that the gradients' nodes belong to that stream."""
        with torch.cuda.device(self.device):
            current = torch.cuda.current_stream()
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream):
                out = compute()
            current.wait_stream(self.stream)
        return out

    def record(self, compute: Callable[[], Losses]) -> tuple[Callable[[], None], Losses]:
        """Kernels are recorded and do not run. Meanwhile the thread of `task.ahead` may pin memory."""
        graph = torch.cuda.CUDAGraph()
        how: dict[str, Any] = {"pool": self.pool, "stream": self.stream, "capture_error_mode": "thread_local"}
        with torch.cuda.device(self.device), torch.cuda.graph(graph, **how):
            out = compute()
        return graph.replay, out


class Captured:
    """`compute(batch, scale)`, which adds to the gradients and returns two sums, recorded once for each shape of a
    batch.

    The first times that a shape comes, it is computed without recording, and the results count. In that time libraries
    choose their kernels, torch.compile compiles, and gradients are allocated. From then on gradients must keep
    their memory: set them to zero, do not delete them. Results are valid until the next call. `compute` must wait
    for nothing, must draw random numbers only from the device's generator, and must take only tensors from a batch,
    not numbers.
    """

    def __init__(self, compute: Compute, device: torch.device, recorder: Recorder) -> None:
        self.compute, self.device, self.recorder = compute, device, recorder
        self.seen: Counter[tuple[Any, ...]] = Counter()
        # By shape: inputs, which are written to before each run, what runs it, and its results.
        self.graphs: dict[tuple[Any, ...], tuple[Batch, Tensor, Callable[[], None], Losses]] = {}

    def __call__(self, batch: Batch, scale: Tensor) -> Losses:
        """As `compute`: batch on the CPU, scale () on the device."""
        shape = tuple(value.shape if isinstance(value, Tensor) else None for value in _fields(batch))
        if shape not in self.graphs:
            self.seen[shape] += 1
            if self.seen[shape] <= WARM_UPS or len(self.graphs) == MOST_GRAPHS:
                there = batch.to(self.device, non_blocking=True)
                return self.recorder.aside(lambda: self.compute(there, scale))
            inputs = batch.to(self.device), scale.clone()
            self.graphs[shape] = *inputs, *self.recorder.record(lambda: self.compute(*inputs))
        own, own_scale, replay, losses = self.graphs[shape]
        for ours, given in zip(_fields(own), _fields(batch), strict=True):
            if isinstance(ours, Tensor):
                ours.copy_(given, non_blocking=True)
        own_scale.copy_(scale)
        replay()
        return losses


def _fields(batch: Any) -> list[Any]:
    return [getattr(batch, field.name) for field in dataclasses.fields(batch)]
