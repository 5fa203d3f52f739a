"""What a model family gives the trainer, and its micro-batches: in order, from any update in any epoch."""

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import nn

from transformer_zoo.errors import UserError
from transformer_zoo.training.distributed import World
from transformer_zoo.training.trackers import Number


class Batch(Protocol):
    """Tensors that a loss understands."""

    @property
    def n_tokens(self) -> int:
        """Number of tokens that the loss sums over."""

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Self:
        """The batch on a device."""

    def pin_memory(self) -> Self:
        """The batch in page-locked memory."""


@dataclass(kw_only=True)
class Task:
    """A model, its texts as micro-batches, and how it is evaluated.

    Args:
        model: The module that is trained and saved.
        objective: Module around `model`: `forward(batch)` returns (loss to minimise, plain NLL), both () and summed
            over tokens. `compile()` compiles the parts that are worth compiling.
        plan: Epoch -> its micro-batches, in order, for all processes together, in the form that `load` understands. It
            is a pure function, so that a run can resume in the middle of an epoch.
        load: One entry of `plan` -> its `Batch` on the CPU.
        in_bucket: Pads a batch to one of a few shapes, for computations that are recorded for each shape.
        validate: Metrics of the present model: at least "loss", and "bleu" if the best is chosen by it.
        samples: Outputs to look at, called after `validate`.
        data: Checksums of the texts, by the names of their fields. A run must resume with the same texts, except those
            that it is only tested on (`check_texts`).
        d_model: Width of the model, on which learning rates depend.
        fine_tuning: Whether the model was trained before.
        flops_per_token: Floating-point operations that training takes for a token, if they are known.
        max_source_tokens: Length of the longest source in the training text, eos included, if there are sources.
        tokenizer: Fingerprint of the tokenizer, if the model refuses any other.
    """

    model: nn.Module
    objective: nn.Module
    plan: Callable[[int], Sequence[Any]]
    load: Callable[[Any], Batch]
    validate: Callable[[], dict[str, Number]]
    samples: Callable[[], list[str]]
    data: dict[str, str]
    d_model: int
    in_bucket: Callable[[Any], Batch] = lambda batch: batch
    fine_tuning: bool = False
    flops_per_token: float = 0.0
    max_source_tokens: int | None = None
    tokenizer: str | None = None


Place = tuple[int, int]
Update = tuple[Place, list[Batch]]


def cut(plan: Sequence[Any], accumulate: int, world: World) -> list[list[Any]]:
    """This process's micro-batches, a list for each update.

    An update takes the next `accumulate * world.size` entries of the plan. The last one of an epoch takes the rest, the
    same number on every process, so that at most `world.size - 1` entries are left out.

    Raises:
        UserError: the plan has fewer micro-batches than there are processes.
    """
    usable = len(plan) - len(plan) % world.size
    if not usable:
        raise UserError(
            f"an epoch has {len(plan)} micro-batches for {world.size} processes: "
            "lower training.batch_tokens or use fewer"
        )
    width = accumulate * world.size
    return [list(plan[i + world.rank : min(i + width, usable) : world.size]) for i in range(0, usable, width)]


@dataclass(frozen=True)
class Feed:
    """Loads micro-batches. For a GPU, a thread prepares the next updates in pinned memory meanwhile.

    They are copied from there without waiting, in order with the work on them. torch keeps the memory until the copy is
    done, and then uses it again.
    """

    plan: Callable[[int], Sequence[Any]]
    load: Callable[[Any], Batch]
    accumulate: int
    world: World
    device: torch.device

    def updates(self, epoch: int, update: int) -> Generator[Update, None, None]:
        """Micro-batches from update number `update` of `epoch` on, without end: (the position after them, the
        micro-batches)."""
        loaded = self._load(epoch, update)
        return ahead(loaded) if self.device.type == "cuda" else loaded

    def _load(self, epoch: int, update: int) -> Generator[Update, None, None]:
        is_gpu = self.device.type == "cuda"
        if is_gpu:  # the device of this thread; pinned memory belongs to one
            torch.cuda.set_device(self.device)
        while True:
            updates = cut(self.plan(epoch), self.accumulate, self.world)
            for number in range(update, len(updates)):
                after = (epoch, number + 1) if number + 1 < len(updates) else (epoch + 1, 0)
                batches = [self.load(entry) for entry in updates[number]]
                yield after, [batch.pin_memory() for batch in batches] if is_gpu else batches
            epoch, update = epoch + 1, 0


def ahead(items: Generator[Update, None, None], depth: int = 3) -> Generator[Update]:
    """`items`, up to `depth` of them made in advance by a thread. An error in the thread is raised here."""
    ready: queue.Queue[Update | BaseException] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: Update | BaseException) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
